//! The files beside the page: every figure as SVG and as PNG, films of the trainings, the network as text.

use rayon::prelude::*;

use crate::error::Error;
use crate::figure::{Figure, figures};
use crate::model::Report;
use crate::{film, raster};

/// The folder of the pictures, beside the page.
pub(crate) const FOLDER: &str = "figures";

/// Names and contents of all of them, for a checked report.
pub(crate) fn files(report: &Report) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let named = |figure: Figure| Figure { svg: report.dataset.named(figure.svg), ..figure };
    let figures: Vec<Figure> = figures(report).into_iter().map(named).collect();
    let draw = |Figure { name, width, svg }: &Figure| {
        raster::png(svg, width.millimetres()).map_err(|reason| Error::Draw { figure: name.clone(), reason })
    };
    let pictures = figures.par_iter().map(draw).collect::<Result<Vec<_>, _>>()?;
    let mut files = film::files(report)?;
    for (Figure { name, svg, .. }, png) in figures.into_iter().zip(pictures) {
        files.push((format!("{name}.svg"), svg.into_bytes()));
        files.push((format!("{name}.png"), png));
    }
    let network = &report.network;
    if !network.layers.is_empty() {
        files.push(("network.dot".to_string(), network.dot().into_bytes()));
        files.push(("network.txt".to_string(), network.table().into_bytes()));
    }
    Ok(files)
}
