// Are two CPUs whole cores just now? Rate of multiply-adds of each alone, then of both together, in units of 10^9:
// prints `together / the larger alone`, 2 on whole cores, 1 on two halves of one (a virtual machine's host may move them).
//   cc -O3 -march=native -ffp-contract=fast -pthread probe.c -o probe && ./probe 0 1
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHAINS 12
typedef float lanes __attribute__((vector_size(32)));

struct job { int cpu; double stop, rate; lanes sum; };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *work(void *argument) {
    struct job *job = argument;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(job->cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    lanes x = {0}, sums[CHAINS] = {{0}};
    x += 0.999f;
    double start = now(), end;
    long rounds = 0;
    do {
        for (int round = 0; round < 50000; round++) {
#pragma GCC unroll 12
            for (int at = 0; at < CHAINS; at++) sums[at] = sums[at] * x + x;
            // Keeps the compiler from skipping rounds.
            __asm__ volatile("" : "+m"(x));
        }
        rounds++;
        end = now();
    } while (end < job->stop);
    job->rate = rounds * 5e4 / (end - start);
    job->sum = sums[0];
    for (int at = 1; at < CHAINS; at++) job->sum += sums[at];
    return NULL;
}

static double rate(struct job *jobs, int count, double seconds) {
    pthread_t threads[2];
    double total = 0;
    for (int at = 0; at < count; at++) {
        jobs[at].stop = now() + seconds;
        if (pthread_create(&threads[at], NULL, work, &jobs[at])) exit(1);
    }
    for (int at = 0; at < count; at++) {
        pthread_join(threads[at], NULL);
        total += jobs[at].rate;
    }
    return total;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    struct job jobs[2] = {{.cpu = atoi(arguments[1])}, {.cpu = atoi(arguments[2])}};
    double first = rate(&jobs[0], 1, 0.04), second = rate(&jobs[1], 1, 0.04);
    printf("%.3f\n", rate(jobs, 2, 0.08) / (first > second ? first : second));
    return jobs[0].sum[0] == -1;
}
