//! A launch of a kernel. Its arguments are checked as they are added.

use crate::buffer::Buffer;
use crate::device::{device_error, driver_error};
use crate::fused::Buckets;
use crate::modules::Modules;
use cudarc::driver::{CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg, sys};
use smallvec::SmallVec;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::{BackendError, Layout};

/// Threads of a block, where each thread computes one element.
const THREADS: u32 = 256;
/// The most axes of an operand; `AXES` of the kernels.
const AXES: usize = 8;
/// The most bytes of dynamic shared memory that a kernel gets without asking for them.
const FREE_SHARED_BYTES: u32 = 48 << 10;

/// A layout, in the form that the kernels take.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Strided {
    axes: i32,
    shape: [i32; AXES],
    strides: [i64; AXES],
    offset: i64,
}

// SAFETY: `View` of kernels/common.cuh has the same fields, types and order, and C's layout.
unsafe impl DeviceRepr for Strided {}

#[derive(Debug, Clone, Copy)]
enum Argument {
    Pointer(u64),
    Strided(Strided),
    Count(u32),
    Signed(i32),
    Stride(i64),
    Float(f32),
    Bits16(u16),
    Buckets(Buckets),
}

/// The blocks of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Blocks along x, y and z. If one of them is 0, nothing is launched.
    pub(crate) blocks: [usize; 3],
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
}

/// A kernel with the arguments added so far. They are added in the order of the kernel's
/// declaration.
#[must_use]
pub(crate) struct Call<'a> {
    modules: &'a Modules,
    stream: &'a CudaStream,
    module: &'static str,
    name: String,
    arguments: SmallVec<[Argument; 16]>,
    problem: Option<BackendError>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        modules: &'a Modules,
        stream: &'a CudaStream,
        module: &'static str,
        name: impl Into<String>,
    ) -> Call<'a> {
        let (name, arguments) = (name.into(), SmallVec::new());
        Call { modules, stream, module, name, arguments, problem: None }
    }

    fn add(mut self, argument: Argument) -> Self {
        self.arguments.push(argument);
        self
    }

    fn refuse(&mut self, problem: String) {
        let problem = device_error(format!("kernel {}: {problem}", self.name));
        self.problem.get_or_insert(problem);
    }

    /// Adds the first element of a source whose layout the kernel knows from other arguments.
    pub(crate) fn source(self, view: &View<'_, Buffer>) -> Self {
        view.buffer.expect_inside(view.layout);
        let at = view.buffer.at(view.layout.offset(), self.stream);
        self.add(Argument::Pointer(at))
    }

    /// Adds a source and its layout.
    pub(crate) fn strided(self, view: &View<'_, Buffer>) -> Self {
        view.buffer.expect_inside(view.layout);
        let at = view.buffer.at(0, self.stream);
        self.add(Argument::Pointer(at)).layout(view.layout, 0)
    }

    /// Adds a source and its layout, where ids name the rows of the source.
    pub(crate) fn strided_rows(self, view: &View<'_, Buffer>) -> Self {
        view.buffer.expect_inside(view.layout);
        let at = view.buffer.at(0, self.stream);
        self.add(Argument::Pointer(at)).layout(view.layout, 1)
    }

    /// Adds a source with another layout than its own. The kernel must stay inside the source's
    /// own.
    pub(crate) fn strided_as(self, view: &View<'_, Buffer>, layout: &Layout) -> Self {
        view.buffer.expect_inside(view.layout);
        let at = view.buffer.at(0, self.stream);
        self.add(Argument::Pointer(at)).layout(layout, 0)
    }

    /// Adds a null pointer for a source that this call does not have.
    pub(crate) fn nothing(self) -> Self {
        self.add(Argument::Pointer(0))
    }

    /// Adds a source that some calls do not have.
    pub(crate) fn source_or_nothing(self, view: Option<&View<'_, Buffer>>) -> Self {
        match view {
            Some(view) => self.source(view),
            None => self.nothing(),
        }
    }

    /// Adds memory of the backend's own that an earlier launch has written.
    pub(crate) fn written(self, buffer: &Buffer) -> Self {
        let at = buffer.at(0, self.stream);
        self.add(Argument::Pointer(at))
    }

    /// Adds the first element of a destination.
    pub(crate) fn target(self, view: &mut ViewMut<'_, Buffer>) -> Self {
        view.buffer.expect_inside(view.layout);
        let at = view.buffer.at_mut(view.layout.offset(), self.stream);
        self.add(Argument::Pointer(at))
    }

    /// Adds a destination and its layout.
    pub(crate) fn strided_target(self, view: &mut ViewMut<'_, Buffer>) -> Self {
        view.buffer.expect_inside(view.layout);
        let at = view.buffer.at_mut(0, self.stream);
        self.add(Argument::Pointer(at)).layout(view.layout, 0)
    }

    /// Adds a destination and its layout, where ids name the rows of the destination.
    pub(crate) fn strided_target_rows(self, view: &mut ViewMut<'_, Buffer>) -> Self {
        view.buffer.expect_inside(view.layout);
        let at = view.buffer.at_mut(0, self.stream);
        self.add(Argument::Pointer(at)).layout(view.layout, 1)
    }

    /// Adds memory of the backend's own, for at least `elements` elements.
    pub(crate) fn scratch(self, buffer: &mut Buffer, elements: usize) -> Self {
        assert!(elements <= buffer.elements(), "kernel {}: scratch memory", self.name);
        let at = buffer.at_mut(0, self.stream);
        self.add(Argument::Pointer(at))
    }

    /// Adds a layout. The first `kept` axes stay as they are; the others are joined as far as
    /// strides allow, since a thread divides once for each axis.
    fn layout(mut self, layout: &Layout, kept: usize) -> Self {
        let axes = merged(layout, kept);
        let mut view = Strided {
            axes: axes.len() as i32,
            shape: [1; AXES],
            strides: [0; AXES],
            offset: layout.offset() as i64,
        };
        if axes.len() > AXES || axes.iter().any(|(extent, _)| i32::try_from(*extent).is_err()) {
            self.refuse(format!("an operand of shape {} is too large", layout.shape()));
        } else {
            for (axis, (extent, stride)) in axes.into_iter().enumerate() {
                view.shape[axis] = extent as i32;
                view.strides[axis] = stride as i64;
            }
        }
        self.add(Argument::Strided(view))
    }

    /// Adds a number of elements, `Count` (`uint32_t`) of the kernels.
    pub(crate) fn count(mut self, n: usize) -> Self {
        let count = u32::try_from(n);
        if count.is_err() {
            self.refuse(format!("{n} elements are more than a kernel counts"));
        }
        self.add(Argument::Count(count.unwrap_or(0)))
    }

    /// Adds 32 bits.
    pub(crate) fn bits(self, x: u32) -> Self {
        self.add(Argument::Count(x))
    }

    /// Adds 16 bits.
    pub(crate) fn bits_16(self, x: u16) -> Self {
        self.add(Argument::Bits16(x))
    }

    /// Adds an `int`.
    pub(crate) fn signed(self, x: i32) -> Self {
        self.add(Argument::Signed(x))
    }

    /// Adds a distance in elements, `int64_t` of the kernels.
    pub(crate) fn stride(self, x: usize) -> Self {
        self.add(Argument::Stride(x as i64))
    }

    /// Adds a `float`.
    pub(crate) fn float(self, x: f64) -> Self {
        self.add(Argument::Float(x as f32))
    }

    /// Adds the buckets of a bias.
    pub(crate) fn buckets(self, x: Buckets) -> Self {
        self.add(Argument::Buckets(x))
    }

    /// Launches at least `n` threads, one for each element. The kernel takes `n` as its last
    /// argument.
    pub(crate) fn each(self, n: usize) -> Outcome {
        self.each_of(n, 1)
    }

    /// Launches a thread for every `share` of the `n` elements. The kernel takes `n` as its last
    /// argument.
    pub(crate) fn each_of(self, n: usize, share: usize) -> Outcome {
        let blocks = [n.div_ceil(THREADS as usize * share), 1, 1];
        self.count(n).launch(Grid { blocks, threads: THREADS, shared: 0 })
    }

    /// Launches the kernel.
    ///
    /// # Errors
    /// The driver refuses the launch, or an operand has more elements than the kernel can count.
    pub(crate) fn launch(self, grid: Grid) -> Outcome {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        // The limits that every device has.
        let [x, y, z] = grid.blocks;
        if x > i32::MAX as usize || y > 65_535 || z > 65_535 {
            let problem = format!("kernel {}: {x}×{y}×{z} blocks are too many", self.name);
            return Err(device_error(problem));
        }
        let function = self.modules.function(self.module, &self.name)?;
        let failed = |error| driver_error(&format!("kernel {}", self.name), error);
        allow_shared(&function, grid.shared).map_err(failed)?;
        let mut launch = self.stream.launch_builder(&function);
        for argument in &self.arguments {
            match argument {
                Argument::Pointer(x) => launch.arg(x),
                Argument::Strided(x) => launch.arg(x),
                Argument::Count(x) => launch.arg(x),
                Argument::Signed(x) => launch.arg(x),
                Argument::Stride(x) => launch.arg(x),
                Argument::Float(x) => launch.arg(x),
                Argument::Bits16(x) => launch.arg(x),
                Argument::Buckets(x) => launch.arg(x),
            };
        }
        let config = LaunchConfig {
            grid_dim: (x as u32, y as u32, z as u32),
            block_dim: (grid.threads, 1, 1),
            shared_mem_bytes: grid.shared,
        };
        // SAFETY: the callers pass what the kernel declares, in its order. The pointers lead to
        // buffers that hold every element that layouts and counts name.
        unsafe { launch.launch(config) }.map_err(failed)?;
        Ok(())
    }
}

/// Extents and strides of the axes. Axes of one element are left out, and neighbours are joined
/// where the strides allow it; the first `kept` axes stay as they are.
fn merged(layout: &Layout, kept: usize) -> SmallVec<[(usize, usize); AXES]> {
    let mut axes: SmallVec<[(usize, usize); AXES]> = SmallVec::new();
    let all = layout.shape().iter().copied().zip(layout.strides().iter().copied());
    for (axis, (extent, stride)) in all.enumerate() {
        if axis >= kept && extent == 1 {
            continue;
        }
        let joined = axes.len() > kept;
        match axes.last_mut().filter(|_| joined) {
            Some(last) if last.1 == stride * extent && i32::try_from(last.0 * extent).is_ok() => {
                *last = (last.0 * extent, stride);
            }
            _ => axes.push((extent, stride)),
        }
    }
    axes
}

/// Asks for the dynamic shared memory beyond what a kernel gets without asking.
fn allow_shared(function: &CudaFunction, bytes: u32) -> Result<(), cudarc::driver::DriverError> {
    if bytes <= FREE_SHARED_BYTES {
        return Ok(());
    }
    let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    function.set_attribute(most, bytes as i32)
}

#[cfg(test)]
mod tests {
    use super::merged;
    use tfm_core::{Layout, Shape};

    fn of(shape: &[usize], strides: &[usize], kept: usize) -> Vec<(usize, usize)> {
        merged(&Layout::from_parts(Shape::new(shape), strides, 3), kept).to_vec()
    }

    #[test]
    fn axes_are_joined_where_strides_allow() {
        assert_eq!(of(&[2, 3, 4], &[12, 4, 1], 0), [(24, 1)]);
        assert_eq!(of(&[2, 3, 4], &[24, 4, 1], 0), [(2, 24), (12, 1)]);
        assert_eq!(of(&[2, 3, 4], &[12, 4, 1], 1), [(2, 12), (12, 1)]);
        assert_eq!(of(&[2, 3, 4], &[1, 2, 6], 0), [(2, 1), (3, 2), (4, 6)]);
        assert_eq!(of(&[5, 1, 7], &[0, 9, 0], 0), [(35, 0)]);
        assert_eq!(of(&[1, 1], &[4, 1], 1), [(1, 4)]);
        assert_eq!(of(&[], &[], 0), []);
        // Axes are not joined beyond what an extent of the kernels can hold.
        assert_eq!(of(&[4, 1 << 30], &[0, 0], 0), [(4, 0), (1 << 30, 0)]);
    }
}
