//! Tensors in host memory: how data enters and leaves a session.

use crate::{DType, Error, Result, Shape};
use half::{bf16, f16};

/// The elements of a host tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// [`DType::F32`].
    F32(Vec<f32>),
    /// [`DType::F16`].
    F16(Vec<f16>),
    /// [`DType::BF16`].
    BF16(Vec<bf16>),
    /// [`DType::I32`].
    I32(Vec<i32>),
}

/// A tensor in host memory, row-major without gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: TensorData,
}

impl Tensor {
    /// A tensor of these elements.
    ///
    /// # Errors
    /// [`Error::TensorSize`] unless there are as many elements as the shape says.
    pub fn new(shape: impl Into<Shape>, data: TensorData) -> Result<Self> {
        let (shape, elements) = (shape.into(), HostSlice::from(&data).len());
        if shape.checked_elements() != Some(elements) {
            return Err(Error::TensorSize { elements, shape });
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor of `f32`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_f32(shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        Tensor::new(shape, TensorData::F32(data))
    }

    /// A tensor of `i32`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_i32(shape: impl Into<Shape>, data: Vec<i32>) -> Result<Self> {
        Tensor::new(shape, TensorData::I32(data))
    }

    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let n = shape.elements();
        let data = match dtype {
            DType::F32 => TensorData::F32(vec![0.0; n]),
            DType::F16 => TensorData::F16(vec![f16::ZERO; n]),
            DType::BF16 => TensorData::BF16(vec![bf16::ZERO; n]),
            DType::I32 => TensorData::I32(vec![0; n]),
        };
        Tensor { shape, data }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.as_slice().dtype()
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements, to take away.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// The elements, borrowed.
    pub fn as_slice(&self) -> HostSlice<'_> {
        HostSlice::from(&self.data)
    }

    /// The elements if they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(data) => Some(data),
            _ => None,
        }
    }

    /// The elements if they are `i32`.
    pub fn as_i32(&self) -> Option<&[i32]> {
        match &self.data {
            TensorData::I32(data) => Some(data),
            _ => None,
        }
    }

    /// The elements as `f64`, whatever their type.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            TensorData::F32(data) => data.iter().map(|&x| f64::from(x)).collect(),
            TensorData::F16(data) => data.iter().map(|&x| f64::from(x)).collect(),
            TensorData::BF16(data) => data.iter().map(|&x| f64::from(x)).collect(),
            TensorData::I32(data) => data.iter().map(|&x| f64::from(x)).collect(),
        }
    }
}

/// Borrowed elements in host memory.
#[derive(Debug, Clone, Copy)]
pub enum HostSlice<'a> {
    /// [`DType::F32`].
    F32(&'a [f32]),
    /// [`DType::F16`].
    F16(&'a [f16]),
    /// [`DType::BF16`].
    BF16(&'a [bf16]),
    /// [`DType::I32`].
    I32(&'a [i32]),
}

impl HostSlice<'_> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            HostSlice::F32(data) => data.len(),
            HostSlice::F16(data) => data.len(),
            HostSlice::BF16(data) => data.len(),
            HostSlice::I32(data) => data.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            HostSlice::F32(_) => DType::F32,
            HostSlice::F16(_) => DType::F16,
            HostSlice::BF16(_) => DType::BF16,
            HostSlice::I32(_) => DType::I32,
        }
    }
}

impl<'a> From<&'a TensorData> for HostSlice<'a> {
    fn from(data: &'a TensorData) -> Self {
        match data {
            TensorData::F32(data) => HostSlice::F32(data),
            TensorData::F16(data) => HostSlice::F16(data),
            TensorData::BF16(data) => HostSlice::BF16(data),
            TensorData::I32(data) => HostSlice::I32(data),
        }
    }
}

impl<'a> From<&'a [f32]> for HostSlice<'a> {
    fn from(data: &'a [f32]) -> Self {
        HostSlice::F32(data)
    }
}

impl<'a> From<&'a [i32]> for HostSlice<'a> {
    fn from(data: &'a [i32]) -> Self {
        HostSlice::I32(data)
    }
}
