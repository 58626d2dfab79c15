//! The part of Python's pickle that a state dict needs, as data.
//!
//! A pickle is a program for a stack machine. This one knows the instructions of protocol 2 that `torch.save` writes and
//! a closed list of names; it calls nothing, so the worst that a pickle can do here is to be refused. Every instruction
//! makes at most one value and values refer to each other by number, so memory is bounded by the pickle's length, however
//! often a value is used; nothing recurses, so nesting costs nothing.

use std::collections::BTreeMap;

use super::super::error::{ImportError, shown};

/// Longest pickle; one of thousands of tensors and their optimiser's state has well below a megabyte.
const MAX_BYTES: usize = 4 << 20;

/// Longest name of a module with a name in it.
const MAX_GLOBAL: usize = 256;

/// A value; composed ones are in the [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    Tuple(usize),
    List,
    Dict(usize),
    Tensor(usize),
    Storage(usize),
    Global(Global),
    /// A number or an array of NumPy, of which nothing is kept.
    Opaque,
}

impl Value<'_> {
    /// What it is, for messages.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float => "a number",
            Self::Text(_) => "a text",
            Self::Tuple(_) => "a tuple",
            Self::List => "a list",
            Self::Dict(_) => "a dict",
            Self::Tensor(_) => "a tensor",
            Self::Storage(_) => "a storage",
            Self::Global(_) => "a name",
            Self::Opaque => "a value of NumPy",
        }
    }
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`
    Tensor,
    /// `torch._utils._rebuild_parameter`
    Parameter,
    /// A type of storage, by its elements.
    Storage(Elements),
    /// Something that becomes [`Value::Opaque`].
    Inert,
}

/// Element types of storages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elements {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// A tensor as it is pickled: not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pickled<'a> {
    pub(super) storage: Stored<'a>,
    /// In elements.
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    /// In elements.
    pub(super) strides: Vec<i64>,
}

/// A storage: its elements lie in the archive under its key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stored<'a> {
    pub(super) elements: Elements,
    pub(super) key: &'a str,
    pub(super) count: i64,
}

/// A loaded pickle.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    root: Option<Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    tensors: Vec<Pickled<'a>>,
    storages: Vec<Stored<'a>>,
}

impl<'a> Pickle<'a> {
    pub(super) fn root(&self) -> Value<'a> {
        self.root.expect("a pickle is loaded to its end")
    }

    /// Keys and values in the order in which they were set.
    pub(super) fn dict(&self, at: usize) -> &[(Value<'a>, Value<'a>)] {
        &self.dicts[at]
    }

    pub(super) fn tensor(&self, at: usize) -> &Pickled<'a> {
        &self.tensors[at]
    }
}

/// Loads a pickle.
pub(super) fn load(bytes: &[u8]) -> Result<Pickle<'_>, ImportError> {
    if bytes.len() > MAX_BYTES {
        let what = format!("it has {} bytes, at most {MAX_BYTES} are read", bytes.len());
        return Err(ImportError::Pickle { at: 0, what });
    }
    let mut machine = Machine { bytes, ..Machine::default() };
    while !machine.step()? {}
    Ok(machine.pickle)
}

#[derive(Debug, Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    /// The next instruction.
    at: usize,
    /// The instruction that is being done.
    started: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value<'a>>,
    pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    /// Does one instruction; true at the last.
    fn step(&mut self) -> Result<bool, ImportError> {
        self.started = self.at;
        let opcode = self.byte()?;
        let value = match opcode {
            0x80 => {
                let protocol = self.byte()?;
                if protocol != 2 {
                    let what = format!("it has protocol {protocol}, not the 2 of `torch.save`");
                    return Err(self.error(what));
                }
                return Ok(false);
            }
            b'.' => return self.stop(),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(false);
            }
            b'q' | b'r' => {
                let key = if opcode == b'q' { u32::from(self.byte()?) } else { self.u32()? };
                let value = self.top()?;
                self.memo.insert(key, value);
                return Ok(false);
            }
            b'h' | b'j' => {
                let key = if opcode == b'h' { u32::from(self.byte()?) } else { self.u32()? };
                let found = self.memo.get(&key).copied();
                found.ok_or_else(|| self.error("it recalls a value that it did not keep"))?
            }
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                Value::Float
            }
            b'X' => {
                let length = self.u32()? as usize;
                let text = str::from_utf8(self.take(length)?);
                Value::Text(text.map_err(|_| self.error("a text is not UTF-8"))?)
            }
            b'}' => self.new_dict(),
            b']' => Value::List,
            b')' => self.new_tuple(Vec::new()),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.new_tuple(items)
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.new_tuple(items)
            }
            b'a' | b'e' => {
                if opcode == b'a' {
                    self.pop()?;
                } else {
                    self.pop_to_mark()?;
                }
                return match self.top()? {
                    Value::List => Ok(false),
                    other => Err(self.error(format!("it appends to {}", other.kind()))),
                };
            }
            b's' | b'u' => {
                let items = if opcode == b's' { self.pop_many(2)? } else { self.pop_to_mark()? };
                self.set_items(&items)?;
                return Ok(false);
            }
            b'b' => {
                self.pop()?;
                // The metadata of a state dict, or the insides of an array: nothing of it is kept.
                return match self.top()? {
                    Value::Dict(_) | Value::Opaque => Ok(false),
                    other => Err(self.error(format!("it sets attributes of {}", other.kind()))),
                };
            }
            b'c' => self.global()?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            other => {
                let what = format!("instruction 0x{other:02x} is none that a state dict needs");
                return Err(self.error(what));
            }
        };
        self.stack.push(value);
        Ok(false)
    }

    fn error(&self, what: impl Into<String>) -> ImportError {
        ImportError::Pickle { at: self.started, what: what.into() }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ImportError> {
        let found = self.bytes[self.at..].get(..length);
        let found = found.ok_or_else(|| self.error("it is cut off"))?;
        self.at += length;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn byte(&mut self) -> Result<u8, ImportError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, ImportError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// An integer of any length that fits into 64 bits.
    fn long(&mut self) -> Result<Value<'a>, ImportError> {
        let length = usize::from(self.byte()?);
        let digits = self.take(length)?;
        if length > 8 {
            return Err(self.error("a number does not fit into 64 bits"));
        }
        let negative = digits.last().is_some_and(|&last| last >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..length].copy_from_slice(digits);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    /// The last value since the last mark.
    fn top(&self) -> Result<Value<'a>, ImportError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let found = self.stack[floor..].last().copied();
        found.ok_or_else(|| self.error("its stack is empty"))
    }

    fn pop(&mut self) -> Result<Value<'a>, ImportError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, ImportError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= floor);
        let start = start.ok_or_else(|| self.error("its stack is empty"))?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, ImportError> {
        let start = self.marks.pop().ok_or_else(|| self.error("it has no mark"))?;
        Ok(self.stack.split_off(start))
    }

    fn new_dict(&mut self) -> Value<'a> {
        self.pickle.dicts.push(Vec::new());
        Value::Dict(self.pickle.dicts.len() - 1)
    }

    fn new_tuple(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.pickle.tuples.push(items);
        Value::Tuple(self.pickle.tuples.len() - 1)
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), ImportError> {
        let Value::Dict(dict) = self.top()? else {
            let what = format!("it sets items of {}", self.top()?.kind());
            return Err(self.error(what));
        };
        let pairs = items.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(self.error("a key has no value"));
        }
        self.pickle.dicts[dict].extend(pairs.map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn stop(&mut self) -> Result<bool, ImportError> {
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() || self.at != self.bytes.len() {
            return Err(self.error("it ends with values left over"));
        }
        self.pickle.root = Some(root);
        Ok(true)
    }

    /// Two lines: a module and a name in it.
    fn global(&mut self) -> Result<Value<'a>, ImportError> {
        let mut line = || {
            let rest = &self.bytes[self.at..];
            let window = &rest[..rest.len().min(MAX_GLOBAL)];
            let length = window.iter().position(|&byte| byte == b'\n');
            let length = length.ok_or_else(|| self.error("a name is cut off or very long"))?;
            let text = str::from_utf8(&window[..length]);
            let text = text.map_err(|_| self.error("a name is not UTF-8"))?;
            self.at += length + 1;
            Ok::<_, ImportError>(text)
        };
        let (module, name) = (line()?, line()?);
        let global = known(module, name).ok_or_else(|| ImportError::Global {
            at: self.started,
            name: shown(&format!("{module}.{name}")),
        })?;
        Ok(Value::Global(global))
    }

    /// A storage by its key: `("storage", type, key, device, elements)`.
    fn persistent(&mut self) -> Result<Value<'a>, ImportError> {
        let id = self.pop()?;
        let Value::Tuple(id) = id else {
            return Err(self.error("a storage is not described by a tuple"));
        };
        let stored = match self.pickle.tuples[id][..] {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(elements)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(count),
            ] => Stored { elements, key, count },
            _ => return Err(self.error("a storage is not described as `torch.save` does")),
        };
        self.pickle.storages.push(stored);
        Ok(Value::Storage(self.pickle.storages.len() - 1))
    }

    /// Where Python would call something.
    fn reduce(&mut self) -> Result<Value<'a>, ImportError> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let Value::Tuple(arguments) = arguments else {
            return Err(self.error("it calls something without a tuple of arguments"));
        };
        let arguments = &self.pickle.tuples[arguments];
        match (callable, &arguments[..]) {
            (Value::Global(Global::Inert), _) => Ok(Value::Opaque),
            (Value::Global(Global::OrderedDict), []) => Ok(self.new_dict()),
            (Value::Global(Global::Parameter), [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
            (
                Value::Global(Global::Tensor),
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let (shape, strides) = (self.integers(shape)?, self.integers(strides)?);
                let storage = self.pickle.storages[storage];
                self.pickle.tensors.push(Pickled { storage, offset, shape, strides });
                Ok(Value::Tensor(self.pickle.tensors.len() - 1))
            }
            (Value::Global(global), _) => {
                Err(self
                    .error(format!("it makes {global:?} of other things than `torch.save` does")))
            }
            (other, _) => Err(self.error(format!("it calls {}", other.kind()))),
        }
    }

    /// The integers of a tuple, which is that of a shape: short.
    fn integers(&self, tuple: usize) -> Result<Vec<i64>, ImportError> {
        let items = &self.pickle.tuples[tuple];
        if items.len() > super::super::checkpoint::MAX_DIMENSIONS {
            return Err(self.error(format!("a tensor has {} dimensions", items.len())));
        }
        let integer = |item: &Value<'_>| match item {
            Value::Int(value) => Ok(*value),
            other => Err(self.error(format!("a shape holds {}", other.kind()))),
        };
        items.iter().map(integer).collect()
    }
}

/// The only names that a pickle may use. Those of NumPy are what training figures beside the state dict are made of.
fn known(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::Tensor,
        ("torch._utils", "_rebuild_parameter") => Global::Parameter,
        ("torch", "DoubleStorage") => Global::Storage(Elements::F64),
        ("torch", "FloatStorage") => Global::Storage(Elements::F32),
        ("torch", "HalfStorage") => Global::Storage(Elements::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Elements::BF16),
        ("torch", "LongStorage") => Global::Storage(Elements::I64),
        ("torch", "IntStorage") => Global::Storage(Elements::I32),
        ("torch", "ShortStorage") => Global::Storage(Elements::I16),
        ("torch", "CharStorage") => Global::Storage(Elements::I8),
        ("torch", "ByteStorage") => Global::Storage(Elements::U8),
        ("torch", "BoolStorage") => Global::Storage(Elements::Bool),
        ("torch", "Size" | "device")
        | ("numpy", "dtype" | "ndarray")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
        | ("_codecs", "encode") => Global::Inert,
        _ => return None,
    })
}
