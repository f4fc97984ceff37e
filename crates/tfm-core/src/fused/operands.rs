//! Operands by name. A node of the graph lists its operands; [`operands!`] says once what stands where in
//! the list of a fused op, and nothing else counts positions.

use smallvec::SmallVec;

/// One item for each operand of a fused op, in the order of its node.
pub type List<T> = SmallVec<[T; 8]>;

/// Declares the operands of a fused op in the order of its node, with the condition of those that are not
/// always there:
///
/// ```ignore
/// operands! {
///     /// The operands of [`Linear`].
///     LinearOperands<T> of (op: Linear) {
///         /// `[.., k]`.
///         x: T,
///         /// `[n]`.
///         bias: Option<T> where op.bias,
///     }
/// }
/// ```
///
/// `T` is whatever there is to say of an
/// operand: its value, its shape, the view that a kernel reads, what a kernel asks of its layout. `list`
/// gives the items in the node's order. The op gets `operands`, which names the items of such a list, and
/// `positions`, which says where each stands.
macro_rules! operands {
    (
        $(#[$doc:meta])*
        $Operands:ident<$T:ident> of ($op:ident: $Op:ident) {
            $($(#[$about:meta])* $operand:ident: $Type:ty $(where $there:expr)?),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $Operands<$T> {
            $($(#[$about])* pub $operand: $Type),*
        }

        impl<$T> $Operands<$T> {
            /// The items of the operands that are there, in the order of the node.
            pub fn list(self) -> $crate::fused::List<$T> {
                let all: [Option<$T>; _] = [$(self.$operand.into()),*];
                all.into_iter().flatten().collect()
            }
        }

        impl $Op {
            /// Names the items of a list in the order of the node.
            ///
            /// # Panics
            /// If the list is shorter than that of a node, which [`infer`](super::FusedOp::infer) refuses.
            pub fn operands<T: Copy>(&self, list: &[T]) -> $Operands<T> {
                let $op = self;
                let _ = $op;
                let mut list = list.iter();
                let mut next = || *list.next().expect("the operands were counted by `infer`");
                $Operands {
                    $($operand: $crate::fused::operands::operand!(next next() $(, $there)?)),*
                }
            }

            /// Where each operand stands in the list.
            pub fn positions(&self) -> $Operands<usize> {
                let all: $crate::fused::List<usize> = (0..self.operand_names().len()).collect();
                self.operands(&all)
            }

            /// The names of the operands that are there.
            pub fn operand_names(&self) -> $crate::fused::List<&'static str> {
                let $op = self;
                let _ = $op;
                let all = [$(
                    $crate::fused::operands::operand!(name stringify!($operand) $(, $there)?)
                ),*];
                all.into_iter().flatten().collect()
            }

            /// Names the operands of a node, if there are as many as the op takes.
            fn expect<'a>(
                &self,
                inputs: &[$crate::fused::Operand<'a>],
            ) -> Result<$Operands<$crate::fused::Operand<'a>>, String> {
                $crate::fused::expect_inputs(inputs, &self.operand_names())?;
                Ok(self.operands(inputs))
            }
        }
    };
}

/// What [`operands!`] says of an operand that is always there, and of one that depends on a condition.
macro_rules! operand {
    (next $next:expr) => {
        $next
    };
    (next $next:expr, $there:expr) => {
        $there.then(|| $next)
    };
    (name $name:expr) => {
        Some($name)
    };
    (name $name:expr, $there:expr) => {
        $there.then_some($name)
    };
}

pub(crate) use {operand, operands};
