//! What a program describes before it asks for a product: operations, layouts and preferences.

use std::collections::BTreeMap;

/// Status codes of the library (`cublasStatus_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    NotInitialized = 1,
    InvalidValue = 7,
    ExecutionFailed = 13,
}

pub(crate) type Answer<T = ()> = Result<T, Status>;

/// Prints what is wrong and refuses.
pub(crate) fn refuse<T>(problem: impl std::fmt::Display) -> Answer<T> {
    eprintln!("fake cuBLASLt: refused: {problem}");
    Err(Status::InvalidValue)
}

/// `cublasLtMatmulDesc_t`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Description {
    pub(crate) compute: u32,
    pub(crate) scale: u32,
    pub(crate) epilogue: u32,
    /// Bit 0: A is transposed; bit 1: B is.
    pub(crate) turned: u32,
    pub(crate) bias: u64,
}

/// `cublasLtMatrixLayout_t`: a batch of column-major matrices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Layout {
    pub(crate) kind: u32,
    pub(crate) batches: i32,
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    pub(crate) leading: i64,
    pub(crate) batch_stride: i64,
}

/// `cublasLtMatmulPreference_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preference {
    pub(crate) workspace: u64,
    pub(crate) reductions: u32,
    /// The alignments of A, B, C and D in bytes.
    pub(crate) alignments: [u32; 4],
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Object {
    Handle,
    Description(Description),
    Layout(Layout),
    Preference(Preference),
}

/// All objects of programs. Handles are numbers from 1 on, and none is used twice.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    objects: BTreeMap<usize, Object>,
    made: usize,
    pub(crate) products: usize,
    pub(crate) lookups: usize,
}

/// The value of an attribute.
fn value<const N: usize>(name: &str, bytes: &[u8]) -> Answer<[u8; N]> {
    bytes.try_into().or_else(|_| refuse(format!("{} bytes for {name}, which has {N}", bytes.len())))
}

impl Objects {
    pub(crate) fn add(&mut self, object: Object) -> usize {
        self.made += 1;
        self.objects.insert(self.made, object);
        self.made
    }

    pub(crate) fn remove(&mut self, number: usize) -> Answer<Object> {
        self.objects.remove(&number).map_or_else(|| refuse("what is destroyed is not there"), Ok)
    }

    pub(crate) fn handle(&self, number: usize) -> Answer {
        match self.objects.get(&number) {
            Some(Object::Handle) => Ok(()),
            _ => Err(Status::NotInitialized),
        }
    }

    pub(crate) fn description(&mut self, number: usize) -> Answer<&mut Description> {
        match self.objects.get_mut(&number) {
            Some(Object::Description(description)) => Ok(description),
            _ => refuse("that is no description"),
        }
    }

    pub(crate) fn layout(&mut self, number: usize) -> Answer<&mut Layout> {
        match self.objects.get_mut(&number) {
            Some(Object::Layout(layout)) => Ok(layout),
            _ => refuse("that is no layout"),
        }
    }

    pub(crate) fn preference(&mut self, number: usize) -> Answer<&mut Preference> {
        match self.objects.get_mut(&number) {
            Some(Object::Preference(preference)) => Ok(preference),
            _ => refuse("that is no preference"),
        }
    }
}

impl Description {
    /// Whether A and whether B is transposed.
    pub(crate) fn turned(&self) -> [bool; 2] {
        [self.turned & 1 != 0, self.turned & 2 != 0]
    }

    pub(crate) fn set(&mut self, attribute: u32, bytes: &[u8]) -> Answer {
        match attribute {
            3 | 4 => {
                let operation = i32::from_ne_bytes(value("an operation", bytes)?);
                if !(0..=1).contains(&operation) {
                    return refuse(format!("operation {operation}"));
                }
                let bit = attribute - 3;
                self.turned = self.turned & !(1 << bit) | (operation as u32) << bit;
            }
            7 => self.epilogue = u32::from_ne_bytes(value("the epilogue", bytes)?),
            8 => self.bias = u64::from_ne_bytes(value("the bias", bytes)?),
            _ => return refuse(format!("attribute {attribute} of a description")),
        }
        Ok(())
    }
}

impl Layout {
    pub(crate) fn set(&mut self, attribute: u32, bytes: &[u8]) -> Answer {
        match attribute {
            5 => self.batches = i32::from_ne_bytes(value("the batch count", bytes)?),
            6 => self.batch_stride = i64::from_ne_bytes(value("the batch stride", bytes)?),
            _ => return refuse(format!("attribute {attribute} of a layout")),
        }
        Ok(())
    }
}

impl Preference {
    pub(crate) fn set(&mut self, attribute: u32, bytes: &[u8]) -> Answer {
        match attribute {
            1 => self.workspace = u64::from_ne_bytes(value("the workspace", bytes)?),
            3 => self.reductions = u32::from_ne_bytes(value("the reductions", bytes)?),
            5..=8 => {
                let alignment = u32::from_ne_bytes(value("an alignment", bytes)?);
                if !alignment.is_power_of_two() {
                    return refuse(format!("an alignment of {alignment} bytes"));
                }
                self.alignments[attribute as usize - 5] = alignment;
            }
            _ => return refuse(format!("attribute {attribute} of a preference")),
        }
        Ok(())
    }
}
