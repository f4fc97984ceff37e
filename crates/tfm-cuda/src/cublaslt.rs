//! Products by NVIDIA's cuBLASLt, where the library is installed. This is our own layer over the
//! raw functions of `cudarc`. Sums are in f32, never in TF32. The algorithm for a problem is looked
//! up once.

use crate::backend::CudaBackend;
use crate::device::device_error;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::CudaStream;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};
use tfm_core::DType;
use tfm_core::backend::Outcome;
use tfm_core::fused::Activation;

/// The most bytes of scratch memory that an algorithm may take.
const WORKSPACE: usize = 32 << 20;
/// The most problems whose plans are kept. Ragged batches bring ever new numbers of rows.
const MOST_PLANS: usize = 4096;

/// How a matrix of a batch lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MatrixStorage {
    /// Whether columns are contiguous instead of rows.
    pub(crate) column_major: bool,
    /// Elements from one row (or column) to the next.
    pub(crate) leading: usize,
    /// Elements from one matrix of the batch to the next.
    pub(crate) batch_stride: usize,
}

/// A product `out [batches, m, n] = f(a [m, k]·b [k, n] + bias + residual)` without the addresses
/// of its operands. The library chooses an algorithm by these fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Problem {
    pub(crate) dtype: DType,
    pub(crate) batches: usize,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: MatrixStorage,
    pub(crate) b: MatrixStorage,
    pub(crate) bias: bool,
    /// A function for which [`has_activation`] is true.
    pub(crate) activation: Option<Activation>,
    /// Elements from one row of the residual to the next.
    pub(crate) residual: Option<usize>,
    /// The alignment, in bytes up to 16, of a, b, the residual and the result (together with the
    /// bias).
    pub(crate) alignments: [u32; 4],
}

/// The addresses of a product's operands; 0 for an operand that the product does not have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) bias: u64,
    pub(crate) residual: u64,
    pub(crate) out: u64,
}

/// Whether the library computes this function as we define it. Its GELU is the one by tanh, with
/// the precision of 16 bits.
pub(crate) fn has_activation(activation: Activation, dtype: DType) -> bool {
    match activation {
        Activation::Relu => true,
        Activation::GeluTanh => dtype != DType::F32,
        Activation::Gelu | Activation::Swish | Activation::Tanh => false,
    }
}

/// The library, opened for a device.
#[derive(Debug)]
pub(crate) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    /// A problem maps to `None` where the library has no algorithm for it.
    plans: Mutex<HashMap<Problem, Option<Plan>>>,
}

// SAFETY: all threads may use the library's handle, and the mutex guards the plans.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

impl CublasLt {
    /// `None` where the library is not installed or fails to start.
    pub(crate) fn open(stream: &CudaStream) -> Option<CublasLt> {
        // SAFETY: this loads the library if it is installed; the library answers for its own
        // initialisation.
        if !unsafe { sys::is_culib_present() } {
            return None;
        }
        stream.context().bind_to_thread().ok()?;
        let handle = result::create_handle().ok()?;
        Some(CublasLt { handle, plans: Mutex::default() })
    }

    /// Launches a product. Returns `false` where the library has no algorithm for it.
    ///
    /// The library fails, or there is no memory for its workspace.
    pub(crate) fn multiply(
        &self,
        cuda: &CudaBackend,
        problem: &Problem,
        at: Addresses,
    ) -> Outcome<bool> {
        let stream = cuda.stream();
        stream.context().bind_to_thread().map_err(|e| failed(format!("{:?}", e.0)))?;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= MOST_PLANS && !plans.contains_key(problem) {
            plans.clear();
        }
        let plan = plans.entry(*problem).or_insert_with(|| {
            // Our own kernels compute whatever the library rejects, for whatever reason.
            Plan::new(self.handle, problem).ok()
        });
        let Some(plan) = plan else { return Ok(false) };
        let elements = plan.workspace.div_ceil(size_of::<f32>());
        let launched = if elements == 0 {
            plan.launch(self.handle, problem, at, 0, stream)
        } else {
            let mut workspace = cuda.scratch(DType::F32, elements)?;
            plan.launch(self.handle, problem, at, workspace.at_mut(0, stream), stream)
        };
        launched.map(|()| true).map_err(|error| failed(format!("{:?}", error.0)))
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        // SAFETY: nothing uses the handle any more. Nobody could act on an error of the
        // destruction.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

fn failed(problem: String) -> tfm_core::BackendError {
    device_error(format!("cuBLASLt: {problem}"))
}

/// The library's description of a matrix, which is column-major.
#[derive(Debug)]
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(
        dtype: DType,
        [rows, columns]: [usize; 2],
        leading: usize,
        batches: usize,
        batch_stride: usize,
    ) -> Result<Layout, CublasError> {
        let unsupported = |_| CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED);
        let layout =
            result::create_matrix_layout(kind(dtype), rows as u64, columns as u64, leading as i64)?;
        let layout = Layout(layout);
        if batches > 1 {
            let count = i32::try_from(batches).map_err(unsupported)?;
            use sys::cublasLtMatrixLayoutAttribute_t::*;
            layout.set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count)?;
            let stride = batch_stride as i64;
            layout.set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride)?;
        }
        Ok(layout)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatrixLayoutAttribute_t,
        value: &T,
    ) -> Result<(), CublasError> {
        let at = std::ptr::from_ref(value).cast();
        // SAFETY: the layout is alive, and the library copies exactly this many bytes.
        unsafe { result::set_matrix_layout_attribute(self.0, attribute, at, size_of::<T>()) }
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: `new` made the layout, and nothing else has it.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// The library's description of what is computed.
#[derive(Debug)]
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        let at = std::ptr::from_ref(value).cast();
        // SAFETY: the description is alive, and the library copies exactly this many bytes.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, at, size_of::<T>()) }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: `Plan::new` made the description, and nothing else has it.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// The library's description of what an algorithm may require.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        let at = std::ptr::from_ref(value).cast();
        // SAFETY: the preference is alive, and the library copies exactly this many bytes.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, at, size_of::<T>()) }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: `Plan::new` made the preference, and nothing else has it.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// How the library computes a problem.
#[derive(Debug)]
struct Plan {
    description: Description,
    a: Layout,
    b: Layout,
    /// The layout of the residual or, without a residual, of the result.
    c: Layout,
    out: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
    /// Bytes of scratch memory that the algorithm takes.
    workspace: usize,
}

impl Plan {
    /// The library is column-major. It sees our matrices transposed and computes outᵀ = bᵀ·aᵀ. So
    /// its first operand is our b, and its bias has one number a row, as ours has one a column.
    fn new(handle: sys::cublasLtHandle_t, problem: &Problem) -> Result<Plan, CublasError> {
        use sys::cublasLtEpilogue_t::*;
        use sys::cublasLtMatmulDescAttributes_t::*;
        use sys::cublasLtMatmulPreferenceAttributes_t::*;
        let Problem { dtype, batches, m, k, n, .. } = *problem;
        let description = Description(result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )?);
        let layout = |storage: MatrixStorage, rows, columns| {
            let shape = if storage.column_major { [rows, columns] } else { [columns, rows] };
            Layout::new(dtype, shape, storage.leading, batches, storage.batch_stride)
        };
        let (a, b) = (layout(problem.b, k, n)?, layout(problem.a, m, k)?);
        let out = Layout::new(dtype, [n, m], n, batches, m * n)?;
        let c = Layout::new(dtype, [n, m], problem.residual.unwrap_or(n), batches, m * n)?;
        let turned = |storage: MatrixStorage| -> i32 { storage.column_major.into() };
        description.set(CUBLASLT_MATMUL_DESC_TRANSA, &turned(problem.b))?;
        description.set(CUBLASLT_MATMUL_DESC_TRANSB, &turned(problem.a))?;
        let epilogue = match (problem.activation, problem.bias) {
            (None, false) => CUBLASLT_EPILOGUE_DEFAULT,
            (None, true) => CUBLASLT_EPILOGUE_BIAS,
            (Some(Activation::GeluTanh), false) => CUBLASLT_EPILOGUE_GELU,
            (Some(Activation::GeluTanh), true) => CUBLASLT_EPILOGUE_GELU_BIAS,
            (Some(_), false) => CUBLASLT_EPILOGUE_RELU,
            (Some(_), true) => CUBLASLT_EPILOGUE_RELU_BIAS,
        };
        description.set(CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        let preference = Preference(result::create_matmul_pref()?);
        preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        // Partial sums stay in f32 where the algorithm splits k.
        let reduction = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &(reduction as u32))?;
        let [a_bytes, b_bytes, c_bytes, out_bytes] = problem.alignments;
        preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b_bytes)?;
        preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a_bytes)?;
        preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c_bytes)?;
        preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out_bytes)?;
        // SAFETY: all of these were made above and are still alive.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                handle,
                description.0,
                a.0,
                b.0,
                c.0,
                out.0,
                preference.0,
            )
        }?;
        let (algorithm, workspace) = (found.algo, found.workspaceSize);
        Ok(Plan { description, a, b, c, out, algorithm, workspace })
    }

    fn launch(
        &self,
        handle: sys::cublasLtHandle_t,
        problem: &Problem,
        at: Addresses,
        workspace: u64,
        stream: &CudaStream,
    ) -> Result<(), CublasError> {
        if problem.bias {
            let bias = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
            self.description.set(bias, &at.bias)?;
        }
        let (one, zero) = (1.0f32, 0.0f32);
        let (beta, c) =
            if problem.residual.is_some() { (&one, at.residual) } else { (&zero, at.out) };
        let address = |at: u64| at as *const c_void;
        // SAFETY: the caller's buffers hold every element that the problem describes, and the
        // workspace has as many bytes as the algorithm asked for.
        unsafe {
            result::matmul(
                handle,
                self.description.0,
                std::ptr::from_ref(&one).cast(),
                std::ptr::from_ref(beta).cast(),
                address(at.b),
                self.a.0,
                address(at.a),
                self.b.0,
                address(c),
                self.c.0,
                at.out as *mut c_void,
                self.out.0,
                &raw const self.algorithm,
                workspace as *mut c_void,
                self.workspace,
                stream.cu_stream().cast(),
            )
        }
    }
}

fn kind(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::F16 => sys::cudaDataType::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
        DType::F32 => sys::cudaDataType::CUDA_R_32F,
        DType::I32 => unreachable!("products are of floats"),
    }
}
