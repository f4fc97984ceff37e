//! Operands by name. A node of the graph lists its operands; [`operands!`] says once what stands
//! where in the list of a fused op, and nothing else counts positions.

use smallvec::SmallVec;

/// One item for each operand of a fused op, in the order of its node.
pub type List<T> = SmallVec<[T; 8]>;

/// Declares the operands of a fused op in the order of its node, with the condition of those that
/// are not always there:
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
/// `T` is whatever there is to say of an operand: its value, its shape, the view that a kernel
/// reads, what a kernel asks of its layout. `list` gives the items in the node's order. The op gets
/// `operands`, which names the items of such a list, and `positions`, which says where each stands.
///
/// Operands that are computed in place come first in the node, in a struct of their own after
/// `in place`, which names the results as well: see [`Adam`](super::Adam).
macro_rules! operands {
    (
        $(#[$doc:meta])*
        $Operands:ident<$T:ident> of ($op:ident: $Op:ident) {
            $($(#[$about:meta])* $operand:ident: $Type:ty $(where $there:expr)?),* $(,)?
        }
        $(
            in place
            $(#[$doc_in_place:meta])*
            $InPlace:ident<$U:ident> {
                $($(#[$about_in_place:meta])* $in_place:ident: $V:ident),* $(,)?
            }
        )?
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

        $(
            $(#[$doc_in_place])*
            #[derive(Debug, Clone, Copy, PartialEq)]
            pub struct $InPlace<$U> {
                $($(#[$about_in_place])* pub $in_place: $V),*
            }

            impl<$U> $InPlace<$U> {
                /// The items in the order of the node.
                pub fn list(self) -> $crate::fused::List<$U> {
                    $crate::fused::List::from_iter([$(self.$in_place),*])
                }

                /// The list of a node with these operands.
                pub fn with(self, read: $Operands<$U>) -> $crate::fused::List<$U> {
                    self.list().into_iter().chain(read.list()).collect()
                }

                /// Names the first items of a list in the order of the node, of its operands or its
                /// results.
                ///
                /// # Panics
                /// If there are fewer.
                pub fn of(list: impl IntoIterator<Item = $U>) -> Self {
                    let mut list = list.into_iter();
                    let mut next = || list.next().expect("the operands were counted by `infer`");
                    $InPlace { $($in_place: next()),* }
                }
            }
        )?

        impl $Op {
            /// How many operands are computed in place: the first of the list, by the first
            /// results.
            const IN_PLACE: usize = <[&str]>::len(&[$($(stringify!($in_place)),*)?]);

            /// Names the items of a list in the order of the node. Those of operands that are
            /// computed in place may lack, as they do in what a kernel is given.
            ///
            /// # Panics
            /// If the list is shorter than that of a node, which [`infer`](super::FusedOp::infer)
            /// refuses.
            pub fn operands<T: Copy>(&self, list: &[T]) -> $Operands<T> {
                let $op = self;
                let _ = $op;
                let read = self.operand_names().len() - Self::IN_PLACE;
                let mut list = list[list.len().saturating_sub(read)..].iter();
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
                let in_place: [&'static str; _] = [$($(stringify!($in_place)),*)?];
                let read = [$(
                    $crate::fused::operands::operand!(name stringify!($operand) $(, $there)?)
                ),*];
                in_place.into_iter().chain(read.into_iter().flatten()).collect()
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

/// What [`operands!`] says of an operand that is always there, and of one that depends on a
/// condition.
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
