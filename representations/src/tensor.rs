//! Parameters: a shape, and elements that are either owned or lie in a mapped file.

use std::{fmt, io, sync::Arc};

use half::{bf16, f16};
use memmap2::{Mmap, MmapMut};
use safetensors::Dtype;

/// Types that parameters are made of.
pub trait Element: bytemuck::Pod + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The type's name in a safetensors header.
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
}

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::BF16;
}

impl Element for i64 {
    const DTYPE: Dtype = Dtype::I64;
}

impl Element for i8 {
    const DTYPE: Dtype = Dtype::I8;
}

impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}

/// A dense, row-major array. Cloning shares the elements.
#[derive(Clone)]
pub struct Tensor<E: Element> {
    shape: Vec<usize>,
    storage: Storage<E>,
}

#[derive(Clone)]
enum Storage<E> {
    Owned(Arc<[E]>),
    Mapped {
        file: Arc<Mmap>,
        start: usize,
        end: usize,
    },
    /// Memory of whole pages.
    Resident {
        pages: Arc<Mmap>,
        bytes: usize,
    },
}

impl<E: Element> Tensor<E> {
    /// A tensor of these elements.
    ///
    /// # Panics
    ///
    /// If the shape does not hold exactly `elements.len()` elements.
    pub fn new(shape: &[usize], elements: Vec<E>) -> Self {
        assert_eq!(elements_of(shape), Some(elements.len()), "shape {shape:?}");
        Self { shape: shape.to_vec(), storage: Storage::Owned(elements.into()) }
    }

    /// A tensor over bytes `start..` of a mapped file, or `None` when the shape overflows, runs
    /// past the end of the file, or starts at an address that is not aligned for `E`.
    pub fn mapped(shape: &[usize], file: Arc<Mmap>, start: usize) -> Option<Self> {
        let bytes = elements_of(shape)?.checked_mul(size_of::<E>())?;
        let end = start.checked_add(bytes)?;
        bytemuck::try_cast_slice::<u8, E>(file.get(start..end)?).ok()?;
        Some(Self { shape: shape.to_vec(), storage: Storage::Mapped { file, start, end } })
    }

    /// Length of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All elements, the last dimension running fastest.
    pub fn as_slice(&self) -> &[E] {
        match &self.storage {
            Storage::Owned(elements) => elements,
            Storage::Mapped { file, start, end } => bytemuck::cast_slice(&file[*start..*end]),
            Storage::Resident { pages, bytes } => bytemuck::cast_slice(&pages[..*bytes]),
        }
    }

    /// Length of the first dimension of a matrix.
    ///
    /// # Panics
    ///
    /// If the tensor has no dimensions.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Elements per row: the product of all dimensions but the first.
    pub fn width(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Row `at` of a matrix.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, at: usize) -> &[E] {
        let width = self.width();
        &self.as_slice()[at * width..][..width]
    }

    /// The same shape with every element converted.
    pub fn map<F: Element>(&self, convert: impl Fn(E) -> F) -> Tensor<F> {
        Tensor::new(&self.shape, self.as_slice().iter().copied().map(convert).collect())
    }

    /// A copy in whole pages of memory of its own: large ones, where the system grants them.
    ///
    /// # Errors
    ///
    /// When the memory cannot be had.
    pub fn resident(&self) -> io::Result<Self> {
        let content: &[u8] = bytemuck::cast_slice(self.as_slice());
        // There are no mappings of no bytes.
        let mut pages = MmapMut::map_anon(content.len().max(1))?;
        // A wish that a system may lack or refuse: the copy is as good without, only slower to read.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        pages[..content.len()].copy_from_slice(content);
        let pages = Arc::new(pages.make_read_only()?);
        let storage = Storage::Resident { pages, bytes: content.len() };
        Ok(Self { shape: self.shape.clone(), storage })
    }

    /// Size of the elements.
    pub fn bytes(&self) -> usize {
        size_of_val(self.as_slice())
    }

    /// Whether the elements lie in a mapped file rather than in memory of their own.
    pub fn is_mapped(&self) -> bool {
        matches!(self.storage, Storage::Mapped { .. })
    }
}

/// Number of elements of a shape, unless it overflows.
pub(crate) fn elements_of(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length))
}

impl<E: Element> fmt::Debug for Tensor<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?} {:?})", E::DTYPE, self.shape)
    }
}

impl<E: Element> PartialEq for Tensor<E> {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.as_slice() == other.as_slice()
    }
}
