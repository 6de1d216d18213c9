//! Structures that launchers and kernels share: the same size and the same offsets on both sides.
//!
//! `__INTADDR__` is what the compiler of the kernels has for `offsetof` without a header.

use super::{
    conv2d, conv2d_wgmma, conv2d_wgmma_pixels, conv2d_wgmma_weight, gather_batch, linear, margin_softmax,
    matrix_product, optimizer, part_sum,
};
use crate::nvrtc::{Architecture, Nvrtc, Output};
use std::mem::offset_of;

/// A structure of a file of the kernels.
struct Layout {
    file: &'static str,
    name: &'static str,
    size: usize,
    fields: Vec<(&'static str, usize)>,
}

macro_rules! layout {
    ($stem:ident :: $name:ident { $($fields:tt)* }) => {
        layout!(concat!(stringify!($stem), ".cu"), $stem::$name { $($fields)* })
    };
    ($file:expr, $module:ident :: $name:ident { $($field:ident),* $(,)? }) => {
        Layout {
            file: $file,
            name: stringify!($name),
            size: size_of::<$module::$name>(),
            fields: vec![$((stringify!($field), offset_of!($module::$name, $field))),*],
        }
    };
}

fn layouts() -> Vec<Layout> {
    vec![
        layout!(gather_batch::Gather {
            seed,
            images,
            height,
            width,
            channels,
            batch,
            shuffle,
            shift,
            mirror,
            offset,
            factor,
        }),
        layout!(margin_softmax::Head { batch, dimension, classes, steps, scale, constant, rounded, pitch, parameters }),
        layout!(part_sum::Tile { first, out, columns, valid, parts, groups }),
        layout!(optimizer::Tile { start, length, decay, rate }),
        layout!(optimizer::Copy { first, length }),
        layout!(optimizer::Sgd { momentum, nesterov }),
        layout!(optimizer::Adam { beta1, beta2, epsilon, decoupled }),
        layout!(
            "conv2d.cuh",
            conv2d::Conv2d {
                height,
                width,
                batch,
                inputs,
                filter_height,
                filter_width,
                outputs,
                output_height,
                output_width,
                stride,
                padding,
            }
        ),
        layout!(
            "conv2d.cuh",
            conv2d::TapAxis {
                pixels,
                step,
                origin,
                direction,
                source,
                taps,
                first_tap,
                tap_step,
                first_pixel,
                pixel_step,
            }
        ),
        layout!(
            "conv2d.cuh",
            conv2d::TapProduct {
                vertical,
                horizontal,
                batch,
                length,
                columns,
                filter_width,
                result_width,
                result_rows,
                splits,
                left_vectors,
                right_vectors,
                out_vectors,
            }
        ),
        layout!("conv2d.cuh", conv2d_wgmma::WgmmaOperands { addend, pre, kept }),
        layout!("conv2d.cuh", conv2d_wgmma_pixels::PixelClass { vertical, horizontal, across, first_tile }),
        layout!(
            "conv2d.cuh",
            conv2d_wgmma_pixels::PixelProduct {
                classes,
                class_count,
                batch,
                length,
                columns,
                filter_width,
                result_width,
                image_bits,
                pixel_bits,
                row_bits,
                image_tiles,
                column_tiles,
                tiles,
            }
        ),
        layout!("conv2d.cuh", conv2d_wgmma::HaloProduct { height, width, tiles, operands }),
        layout!(
            "conv2d.cuh",
            conv2d_wgmma::WideProduct {
                height,
                pixels,
                images,
                across,
                image_tiles,
                parts,
                inputs,
                results,
                channels,
                last_round,
                halved,
                wholes,
                count,
                slots,
                slot_bytes,
                operands,
            }
        ),
        layout!(
            "conv2d.cuh",
            conv2d_wgmma_weight::WeightTiles {
                height,
                source_height,
                stride,
                pixels,
                images,
                across,
                steps,
                steps_of_part,
                inputs,
                outputs,
                slots,
            }
        ),
        layout!("conv2d.cuh", conv2d::WeightProduct { splits, left_vectors, right_vectors, out_vectors }),
        layout!(
            "matrix_product.cuh",
            matrix_product::MatrixProduct {
                rows,
                columns,
                length,
                segments,
                left_segment,
                right_segment,
                left_batch,
                right_batch,
                batch,
                splits,
                left_vectors,
                right_vectors,
                out_vectors,
            }
        ),
        layout!(linear::Linear { pixels, batch, inputs, outputs }),
    ]
}

impl Layout {
    /// What the compiler of the kernels must find true.
    fn assertions(&self) -> String {
        let Layout { name, size, .. } = self;
        let mut text = format!("\nstatic_assert(sizeof({name}) == {size}, \"size of {name}\");\n");
        for (field, offset) in &self.fields {
            text += &format!(
                "static_assert(__INTADDR__(&((({name} *)0)->{field})) == {offset}, \"offset of {name}::{field}\");\n"
            );
        }
        text
    }

    fn check(&self, nvrtc: Nvrtc) -> Result<(), String> {
        let mut files = sphereface_kernels::SOURCES.iter().chain(sphereface_kernels::HEADERS);
        let file = files.find(|file| file.path == self.file).ok_or("no such file")?;
        let text = file.text.to_owned() + &self.assertions();
        let options = [
            format!("--gpu-architecture=compute_{}", Architecture::new(80)),
            "--std=c++17".to_owned(),
            "-DMARGIN_HEADER=\"margin/softmax.cuh\"".to_owned(), // What the head cannot do without.
        ];
        nvrtc.compile_text(file.path, &text, &options, Output::Ptx).map(|_| ())
    }
}

fn nvrtc() -> Option<Nvrtc> {
    Nvrtc::find().map_err(|reason| sphereface_testkit::skip(&reason)).ok()
}

#[test]
fn structures_are_the_same_on_both_sides() {
    let Some(nvrtc) = nvrtc() else { return };
    for layout in layouts() {
        layout.check(nvrtc).unwrap();
    }
}

#[test]
fn a_moved_field_is_found() {
    let Some(nvrtc) = nvrtc() else { return };
    let mut layout = layouts().remove(0);
    layout.fields[1].1 += 4;
    let error = layout.check(nvrtc).unwrap_err();
    assert!(error.contains("offset of Gather::images"), "{error}");
}
