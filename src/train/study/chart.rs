//! Charts as SVG, by plotters.

use super::bootstrap::Interval;
use crate::train::fit::Error;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Okabe and Ito's colours, which most people can tell apart.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 137, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 160, 220),
    RGBColor(213, 94, 0),
    RGBColor(120, 110, 40),
    RGBColor(90, 90, 90),
];
const INK: RGBColor = RGBColor(28, 36, 48);
const GRID: RGBColor = RGBColor(222, 227, 234);

/// A group of bars, one a network.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) values: Vec<Option<Interval>>,
}

/// Values of rows and columns as colours.
pub(super) struct Heat<'a> {
    pub(super) rows: &'a [String],
    pub(super) columns: &'a [String],
    pub(super) values: &'a [Vec<Option<f64>>],
    /// Of both signs, about zero; otherwise of 0 to 1.
    pub(super) signed: bool,
}

/// A line of a panel.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) colour: usize,
    pub(super) dashed: bool,
}

/// A chart of lines.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("a chart cannot be drawn: {error}"))
}

/// Draws on a white area of a size in pixels.
fn drawn(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Result<(), Error>) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    // The page gives the size; the chart keeps its shape.
    Ok(svg.replacen("<svg ", "<svg role=\"img\" ", 1))
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, anchor: HPos, colour: RGBColor) -> Result<(), Error> {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
}

fn fill(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<(), Error> {
    area.draw(&Rectangle::new([from, to], colour.filled())).map_err(failed)
}

fn stroke(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<(), Error> {
    area.draw(&PathElement::new(vec![from, to], colour.stroke_width(1))).map_err(failed)
}

/// Bars from 0 to 1 with their intervals, a group a row.
pub(super) fn bars(groups: &[Bar], names: &[&str]) -> Result<String, Error> {
    let (left, width, bar, gap, top) = (190, 760, 10, 12, 34);
    let group = names.len() as i32 * bar + gap;
    let height = top + group * groups.len() as i32 + 24;
    drawn((1000, height as u32), |area| {
        let x = |value: f64| left + (value.clamp(0.0, 1.0) * f64::from(width)) as i32;
        for tick in 0..=10 {
            let at = x(f64::from(tick) / 10.0);
            stroke(area, (at, top - 6), (at, height - 20), GRID)?;
            write(area, &format!("{:.1}", f64::from(tick) / 10.0), (at, height - 10), 11, HPos::Center, INK)?;
        }
        for (at, name) in names.iter().enumerate() {
            let from = left + 170 * at as i32;
            fill(area, (from, 8), (from + 12, 20), COLOURS[at])?;
            write(area, name, (from + 18, 14), 12, HPos::Left, INK)?;
        }
        for (row, one) in groups.iter().enumerate() {
            let y = top + group * row as i32;
            write(area, &one.label, (left - 10, y + names.len() as i32 * bar / 2), 12, HPos::Right, INK)?;
            for (at, value) in one.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let y = y + at as i32 * bar;
                fill(area, (left, y), (x(value.estimate), y + bar - 2), COLOURS[at])?;
                let middle = y + bar / 2 - 1;
                stroke(area, (x(value.lower), middle), (x(value.upper), middle), INK)?;
                for end in [value.lower, value.upper] {
                    stroke(area, (x(end), middle - 3), (x(end), middle + 3), INK)?;
                }
            }
        }
        Ok(())
    })
}

/// The colour between white and another that a share of 0 to 1 stands for.
fn shade(share: f64, full: RGBColor) -> RGBColor {
    let mix = |to: u8| (255.0 + (f64::from(to) - 255.0) * share.clamp(0.0, 1.0)) as u8;
    RGBColor(mix(full.0), mix(full.1), mix(full.2))
}

/// A table of coloured cells with their values.
pub(super) fn heat(heat: &Heat<'_>) -> Result<String, Error> {
    let square = heat.columns.len() > 6;
    let (left, top, cell, row) = (175, if square { 140 } else { 24 }, if square { 42 } else { 78 }, 24);
    let size = (left + cell * heat.columns.len() as i32 + 10, top + row * heat.rows.len() as i32 + 6);
    // Colours reach as far as the values do, so that small cosines can be told apart.
    let most = heat.values.iter().flatten().flatten().fold(0.05f64, |most, v| most.max(v.abs()));
    drawn((size.0 as u32, size.1 as u32), |area| {
        for (at, name) in heat.columns.iter().enumerate() {
            let middle = left + cell * at as i32 + cell / 2;
            if square {
                let style = ("sans-serif", 12).into_font().transform(FontTransform::Rotate270).color(&INK);
                let style = style.pos(Pos::new(HPos::Left, VPos::Center));
                area.draw(&Text::new(name.clone(), (middle, top - 6), style)).map_err(failed)?;
            } else {
                write(area, name, (middle, top - 12), 12, HPos::Center, INK)?;
            }
        }
        for (at, name) in heat.rows.iter().enumerate() {
            let y = top + row * at as i32;
            write(area, name, (left - 8, y + row / 2), 12, HPos::Right, INK)?;
            for (column, value) in heat.values.get(at).into_iter().flatten().enumerate() {
                let x = left + cell * column as i32;
                let Some(value) = value else { continue };
                let (share, full) = match (heat.signed, *value < 0.0) {
                    (true, true) => (-value / most, RGBColor(178, 40, 30)),
                    (true, false) => (value / most, RGBColor(0, 90, 160)),
                    (false, _) => (*value, RGBColor(0, 90, 160)),
                };
                fill(area, (x + 1, y + 1), (x + cell - 1, y + row - 1), shade(share, full))?;
                let ink = if share > 0.55 { WHITE } else { INK };
                let (middle, number) = (x + cell / 2, format!("{value:.2}").replace("-0.00", "0.00"));
                write(area, &number, (middle, y + row / 2), 11, HPos::Center, ink)?;
            }
        }
        Ok(())
    })
}

/// The least and the most, with some room about them.
fn range(values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let room = ((high - low) * 0.06).max(1e-3);
    low - room..high + room
}

/// Panels of lines, in rows of `columns`; with a legend beside them where `legend` is true.
pub(super) fn lines(panels: &[Panel], columns: usize, size: (u32, u32), legend: bool) -> Result<String, Error> {
    drawn(size, |area| {
        let right = if legend { 150 } else { 0 };
        let (plot, side) = area.split_horizontally(size.0 as i32 - right);
        let areas = plot.split_evenly((panels.len().div_ceil(columns).max(1), columns));
        for (panel, area) in panels.iter().zip(&areas) {
            let points = panel.lines.iter().flat_map(|line| &line.points);
            let (xs, ys) = (range(points.clone().map(|p| p.0)), range(points.map(|p| p.1)));
            let mut builder = ChartBuilder::on(area);
            builder.margin(6).x_label_area_size(22).y_label_area_size(38);
            if !panel.title.is_empty() {
                builder.caption(&panel.title, ("sans-serif", 13).into_font().color(&INK));
            }
            let mut chart = builder.build_cartesian_2d(xs, ys).map_err(failed)?;
            let font = ("sans-serif", 10).into_font().color(&INK);
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(GRID)
                .axis_style(GRID)
                .x_labels(5)
                .y_labels(5)
                .x_label_formatter(&|x| format!("{x:.0}"))
                .y_label_formatter(&|y| format!("{y:.2}"))
                .label_style(font)
                .draw()
                .map_err(failed)?;
            for line in &panel.lines {
                let style = COLOURS[line.colour % COLOURS.len()].stroke_width(2);
                if line.dashed {
                    let dashes = DashedLineSeries::new(line.points.iter().copied(), 5, 4, style);
                    chart.draw_series(dashes).map_err(failed)?;
                } else {
                    chart.draw_series(LineSeries::new(line.points.iter().copied(), style)).map_err(failed)?;
                }
            }
        }
        if legend {
            for (at, line) in panels.iter().flat_map(|panel| &panel.lines).enumerate() {
                let y = 20 + 20 * at as i32;
                let style = COLOURS[line.colour % COLOURS.len()];
                if line.dashed {
                    stroke_wide(&side, (4, y), (10, y), style)?;
                    stroke_wide(&side, (14, y), (20, y), style)?;
                } else {
                    stroke_wide(&side, (4, y), (20, y), style)?;
                }
                write(&side, &line.label, (25, y), 11, HPos::Left, INK)?;
            }
        }
        Ok(())
    })
}

fn stroke_wide(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<(), Error> {
    area.draw(&PathElement::new(vec![from, to], colour.stroke_width(2))).map_err(failed)
}

/// Points (x, y, whether a control), with lines through zero.
pub(super) fn scatter(points: &[(f64, f64, bool)], x: &str, y: &str) -> Result<String, Error> {
    drawn((500, 360), |area| {
        let (xs, ys) = (range(points.iter().map(|p| p.0)), range(points.iter().map(|p| p.1)));
        let mut builder = ChartBuilder::on(area);
        builder.margin(8).x_label_area_size(38).y_label_area_size(54);
        let mut chart = builder.build_cartesian_2d(xs.clone(), ys.clone()).map_err(failed)?;
        let font = |size: i32| ("sans-serif", size).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_desc(x)
            .y_desc(y)
            .axis_desc_style(font(12))
            .label_style(font(10))
            .x_label_formatter(&|x| format!("{x:.2}"))
            .y_label_formatter(&|y| format!("{y:.2}"))
            .draw()
            .map_err(failed)?;
        let zero = |from: (f64, f64), to: (f64, f64)| PathElement::new(vec![from, to], INK.mix(0.5).stroke_width(1));
        if xs.contains(&0.0) {
            chart.draw_series([zero((0.0, ys.start), (0.0, ys.end))]).map_err(failed)?;
        }
        if ys.contains(&0.0) {
            chart.draw_series([zero((xs.start, 0.0), (xs.end, 0.0))]).map_err(failed)?;
        }
        let dot = |(x, y, control): &(f64, f64, bool)| {
            Circle::new((*x, *y), 4, COLOURS[usize::from(*control)].mix(0.8).filled())
        };
        chart.draw_series(points.iter().map(dot)).map_err(failed)?;
        Ok(())
    })
}
