//! Reads the one kind of pickle that `torch.save(model.state_dict(), ...)` writes, and executes nothing.
//!
//! Input: the bytes of `data.pkl`. Output: the tensors of the state dict, as references to storages.
//! A pickle is a program for a stack machine that may call any Python function. This machine knows only
//! the opcodes of plain data and an allow-list of names, for which it does what torch would do with them;
//! everything else is refused by name. Containers live in tables and values are indices into them, so
//! memory grows at most linearly with the file and nothing recurses, however the pickle nests or shares.

use std::collections::HashMap;

use super::StoredDtype;

/// Advice at the end of each refusal.
const REMEDY: &str = "only plain state dicts are read; save it again in Python with \
                      torch.save(model.state_dict(), FILE) or as safetensors";

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 16;

/// Element type of a storage; other types are known by torch's name and element size in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Storage {
    Accepted(StoredDtype),
    Other(&'static str, usize),
}

/// One entry of the state dict.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) storage: Storage,
    /// Name of the storage's record below `data/`.
    pub(super) key: &'a str,
    /// Elements in the storage.
    pub(super) n_elements: usize,
    /// First element of the tensor in the storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// In elements, as many as `shape` has.
    pub(super) strides: Vec<usize>,
}

/// A value on the stack; containers, storages and tensors are indices into the machine's tables.
#[derive(Clone, Copy)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Str(&'a str),
    Tuple(usize),
    List,
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

/// The names that may be used.
#[derive(Clone, Copy)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Storage),
}

#[derive(Default)]
struct Machine<'a> {
    stack: Vec<Value<'a>>,
    /// Stack heights.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<(Storage, &'a str, usize)>,
    tensors: Vec<Tensor<'a>>,
}

/// The tensors of a pickled state dict; where a name is repeated, the last one, as in Python.
///
/// A dict that holds no tensors itself, but a dict under `state_dict`, `model` or `module`, stands for that one.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Tensor<'_>>, String> {
    let mut machine = Machine::default();
    let top = machine.run(bytes)?;
    let Value::Dict(mut dict) = top else {
        return Err(format!("holds a {} instead of a state dict; {REMEDY}", top.kind()));
    };
    let is_tensor = |(_, v): &(Value<'_>, Value<'_>)| matches!(v, Value::Tensor(_));
    if !machine.dicts[dict].iter().any(is_tensor) {
        let inner = machine.dicts[dict].iter().find_map(|pair| match pair {
            (Value::Str("state_dict" | "model" | "module"), Value::Dict(inner)) => Some(*inner),
            _ => None,
        });
        dict = inner.unwrap_or(dict);
    }
    let mut by_name = HashMap::new();
    for pair in &machine.dicts[dict] {
        if let (Value::Str(name), Value::Tensor(i)) = pair {
            by_name.insert(*name, *i);
        }
    }
    if by_name.is_empty() {
        return Err(format!("holds a dict without tensors; {REMEDY}"));
    }
    let named = by_name.into_iter().map(|(name, i)| Tensor { name, ..machine.tensors[i].clone() });
    Ok(named.collect())
}

/// Reads operands; running out of bytes is an error, never a panic.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or("the pickle ends too early")?;
        self.rest = rest;
        Ok(head)
    }

    /// A little-endian unsigned number of `n` ≤ 8 bytes.
    fn number(&mut self, n: usize) -> Result<u64, String> {
        Ok(self.take(n)?.iter().rev().fold(0, |all, &b| all << 8 | u64::from(b)))
    }

    /// A UTF-8 string after its length of `n` bytes.
    fn string(&mut self, n: usize) -> Result<&'a str, String> {
        let length = usize::try_from(self.number(n)?).map_err(|e| e.to_string())?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "a string that is not UTF-8".into())
    }

    /// The text up to the next newline.
    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&b| b == b'\n').ok_or("the pickle ends too early")?;
        let line = std::str::from_utf8(self.take(end)?).map_err(|_| "a name that is not UTF-8")?;
        self.take(1)?;
        Ok(line)
    }
}

impl<'a> Machine<'a> {
    fn run(&mut self, bytes: &'a [u8]) -> Result<Value<'a>, String> {
        let mut reader = Reader { rest: bytes };
        loop {
            let at = bytes.len() - reader.rest.len();
            let opcode = reader.number(1).map_err(|e| format!("its pickle is damaged: {e}"))? as u8;
            if opcode == b'.' {
                return self.pop().map_err(|e| format!("its pickle is damaged: {e}"));
            }
            // A refusal explains itself; anything else needs the place.
            self.step(opcode, &mut reader).map_err(|e| match e.starts_with("refused") {
                true => e,
                false => format!("its pickle is damaged at byte {at} (opcode {}): {e}", name_of(opcode)),
            })?;
        }
    }

    fn step(&mut self, opcode: u8, reader: &mut Reader<'a>) -> Result<(), String> {
        let value = match opcode {
            // PROTO, FRAME
            0x80 => match reader.number(1)? {
                0..=5 => return Ok(()),
                version => return Err(format!("pickle protocol {version}, expected at most 5")),
            },
            0x95 => return reader.take(8).map(|_| ()),
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool,
            b'J' => Value::Int(i64::from(reader.number(4)? as u32 as i32)),
            b'K' => Value::Int(reader.number(1)? as i64),
            b'M' => Value::Int(reader.number(2)? as i64),
            // LONG1
            0x8a => match reader.number(1)? as usize {
                0 => Value::Int(0),
                n @ 1..=8 => {
                    let unused = 64 - 8 * n as u32;
                    Value::Int((reader.number(n)? << unused) as i64 >> unused)
                }
                n => return Err(format!("an integer of {n} bytes")),
            },
            b'G' => {
                reader.take(8)?;
                Value::Float
            }
            b'X' => Value::Str(reader.string(4)?),
            0x8c => Value::Str(reader.string(1)?),
            0x8d => Value::Str(reader.string(8)?),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b')' => self.tuple(vec![]),
            b't' => {
                let items = self.pop_mark()?;
                self.tuple(items)
            }
            0x85..=0x87 => {
                let items = self.pop_n(usize::from(opcode - 0x84))?;
                self.tuple(items)
            }
            // Lists occur beside the weights only; their contents are of no interest.
            b']' => Value::List,
            b'a' => {
                self.pop()?;
                return self.top_is_list();
            }
            b'e' => {
                self.pop_mark()?;
                return self.top_is_list();
            }
            b'}' => self.dict(),
            b's' => {
                let pair = self.pop_n(2)?;
                return self.set_items(&pair);
            }
            b'u' => {
                let pairs = self.pop_mark()?;
                return self.set_items(&pairs);
            }
            b'c' => {
                let (module, name) = (reader.line()?, reader.line()?);
                Value::Global(global(module, name)?)
            }
            0x93 => {
                let pair = self.pop_n(2)?;
                let [Value::Str(module), Value::Str(name)] = pair[..] else {
                    return Err("a global whose name is not a string".into());
                };
                Value::Global(global(module, name)?)
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?
            }
            b'R' => {
                let pair = self.pop_n(2)?;
                self.reduce(pair[0], pair[1])?
            }
            // BUILD sets attributes; a state dict carries `_metadata` that way, which is not needed.
            b'b' => {
                let pair = self.pop_n(2)?;
                match pair[0] {
                    Value::Dict(_) => pair[0],
                    other => {
                        return Err(format!("refused: it sets the state of a {}; {REMEDY}", other.kind()));
                    }
                }
            }
            b'q' | b'r' => return self.remember(reader.number(if opcode == b'q' { 1 } else { 4 })? as u32),
            0x94 => return self.remember(self.memo.len() as u32),
            b'h' | b'j' => {
                let key = reader.number(if opcode == b'h' { 1 } else { 4 })? as u32;
                *self.memo.get(&key).ok_or_else(|| format!("nothing is remembered as {key}"))?
            }
            0x81 | 0x92 | b'i' | b'o' => {
                let name = name_of(opcode);
                return Err(format!(
                    "refused: opcode {name} would create an arbitrary Python object; {REMEDY}"
                ));
            }
            _ => {
                return Err(format!(
                    "refused: opcode {} is not one of a state dict; {REMEDY}",
                    name_of(opcode)
                ));
            }
        };
        self.stack.push(value);
        Ok(())
    }

    /// Lowest stack height that may be popped: values below the last mark belong to it.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Value<'a>>, String> {
        match self.stack.len().checked_sub(n) {
            Some(at) if at >= self.floor() => Ok(self.stack.split_off(at)),
            _ => Err("the stack is empty".into()),
        }
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        if self.stack.len() <= self.floor() {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let at = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(at))
    }

    fn top(&self) -> Result<Value<'a>, String> {
        let above = self.stack.len() > self.floor();
        self.stack.last().copied().filter(|_| above).ok_or_else(|| "the stack is empty".into())
    }

    fn top_is_list(&self) -> Result<(), String> {
        match self.top()? {
            Value::List => Ok(()),
            other => Err(format!("appends to a {}", other.kind())),
        }
    }

    fn remember(&mut self, key: u32) -> Result<(), String> {
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.tuples.push(items);
        Value::Tuple(self.tuples.len() - 1)
    }

    fn dict(&mut self) -> Value<'a> {
        self.dicts.push(vec![]);
        Value::Dict(self.dicts.len() - 1)
    }

    fn set_items(&mut self, flat: &[Value<'a>]) -> Result<(), String> {
        let (pairs, rest) = flat.as_chunks::<2>();
        match self.top()? {
            Value::Dict(i) if rest.is_empty() => {
                self.dicts[i].extend(pairs.iter().map(|[k, v]| (*k, *v)));
                Ok(())
            }
            Value::Dict(_) => Err("a key without a value".into()),
            other => Err(format!("sets items of a {}", other.kind())),
        }
    }

    /// `('storage', torch.XStorage, key, location, n_elements)`
    fn storage(&mut self, id: Value<'a>) -> Result<Value<'a>, String> {
        if let Value::Tuple(i) = id
            && let [
                Value::Str("storage"),
                Value::Global(Global::Storage(kind)),
                Value::Str(key),
                _,
                Value::Int(n),
            ] = self.tuples[i][..]
        {
            let n = usize::try_from(n).map_err(|_| format!("storage `{key}` has {n} elements"))?;
            self.storages.push((kind, key, n));
            return Ok(Value::Storage(self.storages.len() - 1));
        }
        Err("a persistent id that does not describe a storage".into())
    }

    fn reduce(&mut self, callable: Value<'a>, args: Value<'a>) -> Result<Value<'a>, String> {
        let (Value::Global(callable), Value::Tuple(args)) = (callable, args) else {
            return Err(format!("a call of a {}", callable.kind()));
        };
        match (callable, &self.tuples[args][..]) {
            (Global::OrderedDict, []) => Ok(self.dict()),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
            // Then: requires_grad, backward hooks, optional metadata.
            (Global::RebuildTensor, [Value::Storage(s), Value::Int(offset), shape, strides, ..]) => {
                let (storage, key, n_elements) = self.storages[*s];
                let offset = usize::try_from(*offset).map_err(|_| format!("storage offset {offset}"))?;
                let (shape, strides) = (self.sizes(*shape)?, self.sizes(*strides)?);
                if shape.len() != strides.len() {
                    return Err(format!("shape {shape:?} with strides {strides:?}"));
                }
                self.tensors.push(Tensor { name: "", storage, key, n_elements, offset, shape, strides });
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            _ => Err("a call with unexpected arguments".into()),
        }
    }

    fn sizes(&self, tuple: Value<'a>) -> Result<Vec<usize>, String> {
        let Value::Tuple(i) = tuple else {
            return Err(format!("a {} instead of a shape", tuple.kind()));
        };
        let size = |v: &Value<'a>| match v {
            Value::Int(n) => usize::try_from(*n).map_err(|_| format!("the dimension {n}")),
            other => Err(format!("a {} as dimension", other.kind())),
        };
        // A long tuple could be shared by many tensors, and each would get its own copy.
        match &self.tuples[i] {
            sizes if sizes.len() > MAX_DIMENSIONS => Err(format!("a tensor of {} dimensions", sizes.len())),
            sizes => sizes.iter().map(size).collect(),
        }
    }
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool => "bool",
            Value::Int(_) => "int",
            Value::Float => "float",
            Value::Str(_) => "str",
            Value::Tuple(_) => "tuple",
            Value::List => "list",
            Value::Dict(_) => "dict",
            Value::Global(_) => "class or function",
            Value::Storage(_) => "storage",
            Value::Tensor(_) => "tensor",
        }
    }
}

/// The allow-list.
fn global(module: &str, name: &str) -> Result<Global, String> {
    use Storage::{Accepted, Other};
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage(Accepted(StoredDtype::F32)),
        ("torch", "HalfStorage") => Global::Storage(Accepted(StoredDtype::F16)),
        ("torch", "BFloat16Storage") => Global::Storage(Accepted(StoredDtype::BF16)),
        ("torch", "DoubleStorage") => Global::Storage(Other("F64", 8)),
        ("torch", "LongStorage") => Global::Storage(Other("I64", 8)),
        ("torch", "IntStorage") => Global::Storage(Other("I32", 4)),
        ("torch", "ShortStorage") => Global::Storage(Other("I16", 2)),
        ("torch", "CharStorage") => Global::Storage(Other("I8", 1)),
        ("torch", "ByteStorage") => Global::Storage(Other("U8", 1)),
        ("torch", "BoolStorage") => Global::Storage(Other("BOOL", 1)),
        ("torch.storage", "UntypedStorage") => Global::Storage(Other("untyped bytes", 1)),
        _ => return Err(format!("refused: this file would execute `{module}.{name}`; {REMEDY}")),
    })
}

/// Python's name of an opcode, for messages.
fn name_of(opcode: u8) -> String {
    // Opcode letter, then its name.
    const LETTERS: &str = "(MARK .STOP 0POP 1POP_MARK 2DUP BBINBYTES CSHORT_BINBYTES FFLOAT GBINFLOAT IINT JBININT \
                           KBININT1 LLONG MBININT2 NNONE PPERSID QBINPERSID RREDUCE SSTRING TBINSTRING \
                           USHORT_BINSTRING VUNICODE XBINUNICODE ]EMPTY_LIST aAPPEND bBUILD cGLOBAL dDICT eAPPENDS \
                           gGET hBINGET iINST jLONG_BINGET lLIST oOBJ pPUT qBINPUT rLONG_BINPUT sSETITEM tTUPLE \
                           uSETITEMS )EMPTY_TUPLE }EMPTY_DICT";
    // From 0x80 on.
    const UPPER: &str = "PROTO NEWOBJ EXT1 EXT2 EXT4 TUPLE1 TUPLE2 TUPLE3 NEWTRUE NEWFALSE LONG1 LONG4 \
                         SHORT_BINUNICODE BINUNICODE8 BINBYTES8 EMPTY_SET ADDITEMS FROZENSET NEWOBJ_EX STACK_GLOBAL \
                         MEMOIZE FRAME BYTEARRAY8 NEXT_BUFFER READONLY_BUFFER";
    let name = match opcode.checked_sub(0x80) {
        Some(n) => UPPER.split_whitespace().nth(usize::from(n)),
        None => LETTERS.split_whitespace().find_map(|word| word.strip_prefix(char::from(opcode))),
    };
    name.map_or_else(|| format!("0x{opcode:02x}"), |name| format!("{name} (0x{opcode:02x})"))
}
