//! Structures that launchers and kernels share: the same size and the same offsets on both sides.
//!
//! `__INTADDR__` is what the compiler of the kernels has for `offsetof` without a header.

use super::{gather_batch, margin_softmax, optimizer};
use crate::nvrtc::{Architecture, Nvrtc, Output};
use std::mem::offset_of;

/// A structure of a file of the kernels.
struct Layout {
    stem: &'static str,
    name: &'static str,
    size: usize,
    fields: Vec<(&'static str, usize)>,
}

macro_rules! layout {
    ($stem:ident :: $name:ident { $($field:ident),* $(,)? }) => {
        Layout {
            stem: stringify!($stem),
            name: stringify!($name),
            size: size_of::<$stem::$name>(),
            fields: vec![$((stringify!($field), offset_of!($stem::$name, $field))),*],
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
        layout!(margin_softmax::Head { batch, dimension, classes, steps, scale, constant, parameters }),
        layout!(optimizer::Tile { start, length, decay, rate }),
        layout!(optimizer::Sgd { momentum, nesterov }),
        layout!(optimizer::Adam { beta1, beta2, epsilon, decoupled }),
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
        let file = sphereface_kernels::source(self.stem).ok_or("no such file")?;
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
