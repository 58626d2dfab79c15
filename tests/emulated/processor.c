/* Preloaded before Bochs' processor: makes every model a Sapphire Rapids, which has AVX-512 with VNNI and BF16.
 *
 * The Python package makes a Skylake-X and offers no choice, but asks for it through the dynamic linker. MODELS names all of
 * its functions that make a processor, as X(name) X(name) ...; BOCHS is the path of its library. It also wants two functions
 * of a C library newer than some that it is installed beside.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void *sapphire_rapids(void *cpu)
{
    void *library = dlopen(getenv("BOCHS"), RTLD_NOW | RTLD_NOLOAD);
    void *(*make)(void *) = library ? (void *(*)(void *))dlsym(library, "_Z28create_sapphire_rapids_cpuidP8BX_CPU_C") : NULL;
    if (!make) {
        fprintf(stderr, "this Bochs has no Sapphire Rapids: %s\n", dlerror());
        exit(71);
    }
    return make(cpu);
}

#define X(model) \
    void *model(void *cpu) { return sapphire_rapids(cpu); }
MODELS

unsigned long long __isoc23_strtoull(const char *text, char **end, int base)
{
    return strtoull(text, end, base);
}

int __isoc23_sscanf(const char *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int count = vsscanf(text, format, arguments);
    va_end(arguments);
    return count;
}
