//! Eight floats at a time: the unit in which factor rows are stored and summed.
//!
//! Kernels are plain loops over lanes, compiled twice: for the target's baseline and for AVX2. Both do the same operations in
//! the same order (eight partial sums, then a fixed tree; no fused multiply-add), so they give the same bits.

/// Floats in a lane.
pub const LANES: usize = 8;

/// Eight floats that are computed together.
pub type Lane = [f32; LANES];

/// Lanes of a row that kernels are compiled for. A row is padded with zeros to the next of these.
pub const ROW_LANES: [usize; 10] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 17];

/// The instruction set a kernel runs on. The results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {
    /// Whatever the target guarantees.
    Portable,
    /// 256-bit vectors on x86-64. Made by [`Simd::detect`] alone.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

/// Proof that this processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Simd {
    /// The best this processor has.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Self::Avx2(Avx2(()));
        }
        Self::Portable
    }
}

/// Compiles `$body::<N>($args)` for every row width and for AVX2, and calls the one that fits.
macro_rules! kernel {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($lanes:ident, $($arg:ident: $type:ty),* $(,)?) -> $out:ty = $body:ident) => {
        $(#[$doc])*
        $vis fn $name(simd: $crate::lanes::Simd, $lanes: usize, $($arg: $type),*) -> $out {
            #[inline(always)]
            fn by_width($lanes: usize, $($arg: $type),*) -> $out {
                match $lanes {
                    1 => $body::<1>($($arg),*),
                    2 => $body::<2>($($arg),*),
                    3 => $body::<3>($($arg),*),
                    4 => $body::<4>($($arg),*),
                    5 => $body::<5>($($arg),*),
                    6 => $body::<6>($($arg),*),
                    8 => $body::<8>($($arg),*),
                    10 => $body::<10>($($arg),*),
                    12 => $body::<12>($($arg),*),
                    17 => $body::<17>($($arg),*),
                    lanes => unreachable!("rows of {lanes} lanes are not made"),
                }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($lanes: usize, $($arg: $type),*) -> $out {
                by_width($lanes, $($arg),*)
            }
            match simd {
                $crate::lanes::Simd::Portable => by_width($lanes, $($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Simd::Avx2(_) => {
                    #[expect(unsafe_code, reason = "an `Avx2` exists only on processors that have it")]
                    unsafe { avx2($lanes, $($arg),*) }
                }
            }
        }
    };
}
pub(crate) use kernel;

/// Compiles `$body` for the target's baseline and for AVX2, and calls the one that fits.
macro_rules! dispatch {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $out:ty = $body:block) => {
        $(#[$doc])*
        fn $name(simd: $crate::lanes::Simd, $($arg: $type),*) -> $out {
            #[inline(always)]
            fn body($($arg: $type),*) -> $out $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) -> $out {
                body($($arg),*)
            }
            match simd {
                $crate::lanes::Simd::Portable => body($($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Simd::Avx2(_) => {
                    #[expect(unsafe_code, reason = "an `Avx2` exists only on processors that have it")]
                    unsafe { avx2($($arg),*) }
                }
            }
        }
    };
}
pub(crate) use dispatch;

/// The sum of eight partial sums, along a fixed tree.
#[inline(always)]
pub(crate) fn tree([a, b, c, d, e, f, g, h]: Lane) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// `target = scale * source`.
#[inline(always)]
pub(crate) fn scale<const N: usize>(target: &mut [Lane; N], scale: f32, source: &[Lane; N]) {
    for n in 0..N {
        for l in 0..LANES {
            target[n][l] = scale * source[n][l];
        }
    }
}

/// `target += scale * source`.
#[inline(always)]
pub(crate) fn add_scaled<const N: usize>(target: &mut [Lane; N], scale: f32, source: &[Lane; N]) {
    for n in 0..N {
        for l in 0..LANES {
            target[n][l] += scale * source[n][l];
        }
    }
}

/// Asks for the cache lines of `items` ahead of their use.
#[inline(always)]
pub(crate) fn prefetch<T>(items: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = items.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(items)).step_by(64) {
            #[expect(unsafe_code, reason = "a prefetch of an address inside a slice; it reads and changes nothing")]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.add(offset));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = items;
}

/// Asks for the cache lines of `items` ahead of their change, so that it need not wait until the other processors have let go of
/// them.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(items: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    {
        let start = items.as_ptr().cast::<u8>();
        for offset in (0..size_of_val(items)).step_by(64) {
            // The intrinsic of this name becomes a prefetch to read unless the whole program is compiled for newer processors. Older
            // ones take the instruction for no operation.
            #[expect(unsafe_code, reason = "a prefetch of an address inside a slice; it reads and changes nothing")]
            unsafe {
                std::arch::asm!("prefetchw [{}]", in(reg) start.add(offset), options(nostack, preserves_flags));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = items;
}
