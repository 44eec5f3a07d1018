//! Charts as files of their own, as SVG and as pictures.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use crate::draw::{Medium, svg};
use crate::figures;
use crate::measure::{FAMILY, FONT};
use crate::run::Run;

/// A chart in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chart {
    /// A name for the file, without an ending; unlike that of any other chart.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// The chart as SVG, with heading and caption, on light ground.
    pub svg: String,
}

/// The charts of the page, for one run or for several laid over each other.
#[must_use]
pub fn charts(runs: &[Run]) -> Vec<Chart> {
    let figures = figures::of(runs).into_iter().flat_map(|section| section.figures);
    let chart = |figure: crate::plot::Figure| Chart {
        svg: svg(&figure, Medium::File, &figure.name),
        name: figure.name,
        title: figure.title,
    };
    figures.map(chart).collect()
}

impl Chart {
    /// The chart as a picture, twice as many pixels wide and high as the SVG says. No font of the system is needed.
    ///
    /// # Panics
    /// When `svg` was changed into something that is no SVG.
    #[must_use]
    pub fn png(&self) -> Vec<u8> {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(FONT.to_vec());
        fonts.set_sans_serif_family(FAMILY);
        let options = Options { font_family: FAMILY.to_owned(), fontdb: Arc::new(fonts), ..Options::default() };
        let tree = Tree::from_str(&self.svg, &options).expect("a chart is an SVG");
        let size = tree.size().to_int_size().scale_by(2.0).expect("a chart has a size");
        let mut picture = Pixmap::new(size.width(), size.height()).expect("a chart has a size");
        resvg::render(&tree, Transform::from_scale(2.0, 2.0), &mut picture.as_mut());
        picture.encode_png().expect("a picture in memory can be written to memory")
    }
}
