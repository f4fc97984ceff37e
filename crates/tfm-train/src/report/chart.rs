//! Line charts as SVG: panels side by side, in colours that suit light and dark backgrounds.

use std::fmt::Write;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 42.0;
const TEXT: &str = "#7d8590";
const COLOURS: [&str; 2] = ["#3f8fe0", "#e0823f"];

/// A chart.
pub(super) struct Panel<'p> {
    pub(super) title: &'p str,
    /// Whether the vertical axis is logarithmic.
    pub(super) logarithmic: bool,
    /// The lines, at most two.
    pub(super) series: Vec<Series<'p>>,
}

/// A line of a chart.
pub(super) struct Series<'p> {
    pub(super) name: &'p str,
    /// The points from left to right; all finite, and above 0 where the panel is logarithmic.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether each point has a dot.
    pub(super) dots: bool,
}

/// The panels with points as one picture.
pub(super) fn draw(panels: &[Panel<'_>], across: &str) -> String {
    let panels: Vec<&Panel<'_>> = panels
        .iter()
        .filter(|panel| panel.series.iter().any(|series| !series.points.is_empty()))
        .collect();
    let width = WIDTH * panels.len().max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n"
    );
    if panels.is_empty() {
        let _ = writeln!(svg, "<text x=\"20\" y=\"40\">Nothing has been measured yet.</text>");
    }
    for (number, panel) in panels.into_iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", WIDTH * number as f64);
        panel.draw(across, &mut svg);
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

impl Panel<'_> {
    fn draw(&self, across: &str, svg: &mut String) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::new(points().map(|point| point.0), false, LEFT, WIDTH - RIGHT);
        let y = Axis::new(points().map(|point| point.1), self.logarithmic, HEIGHT - BOTTOM, TOP);
        let title = escaped(self.title);
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"18\" font-weight=\"600\">{title}</text>");
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let (at, label) = (y.place(tick), number(tick));
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#808080\" stroke-opacity=\".25\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        for tick in x.ticks() {
            let (at, label) = (x.place(tick), number(tick));
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {bottom}v4\" stroke=\"#808080\"/>\n<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 17.0
            );
        }
        let middle = (LEFT + right) / 2.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {bottom}H{right}\" stroke=\"#808080\"/>\n<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 8.0,
            escaped(across)
        );
        let mut legend = right;
        for (series, colour) in self.series.iter().zip(COLOURS).rev() {
            if series.points.is_empty() {
                continue;
            }
            series.draw(&x, &y, colour, svg);
            let name = escaped(series.name);
            let _ = writeln!(
                svg,
                "<text x=\"{legend:.1}\" y=\"18\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>"
            );
            legend -= 14.0 + 6.6 * series.name.chars().count() as f64;
        }
    }
}

impl Series<'_> {
    fn draw(&self, x: &Axis, y: &Axis, colour: &str, svg: &mut String) {
        let places: Vec<(f64, f64)> =
            self.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>",
            path.join("L")
        );
        for (x, y) in places.iter().filter(|_| self.dots) {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\" fill=\"{colour}\"/>");
        }
    }
}

/// Values along a side of a panel.
struct Axis {
    least: f64,
    most: f64,
    logarithmic: bool,
    start: f64,
    end: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, logarithmic: bool, start: f64, end: f64) -> Self {
        let (least, most) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        let mut axis = Axis { least, most, logarithmic, start, end };
        // A single value is drawn in the middle.
        let margin = match axis.span() {
            span if span > 0.0 => 0.04 * span,
            _ if logarithmic => 0.5,
            _ => (0.5 * least.abs()).max(0.5),
        };
        (axis.least, axis.most) = if logarithmic {
            (least * (-margin).exp(), most * margin.exp())
        } else {
            (least - margin, most + margin)
        };
        axis
    }

    fn scaled(&self, value: f64) -> f64 {
        if self.logarithmic { value.ln() } else { value }
    }

    fn span(&self) -> f64 {
        self.scaled(self.most) - self.scaled(self.least)
    }

    fn place(&self, value: f64) -> f64 {
        let share = (self.scaled(value) - self.scaled(self.least)) / self.span();
        self.start + share * (self.end - self.start)
    }

    /// About five round values.
    fn ticks(&self) -> Vec<f64> {
        let is_inside = |value: &f64| (self.least..=self.most).contains(value);
        if self.logarithmic {
            let decades = self.least.log10().floor() as i32..=self.most.log10().ceil() as i32;
            let of = |steps: &'static [f64]| {
                decades
                    .clone()
                    .flat_map(move |decade| steps.iter().map(move |s| s * 10f64.powi(decade)))
            };
            let fine: Vec<f64> = of(&[1.0, 2.0, 5.0]).filter(is_inside).collect();
            return match fine.len() {
                // Less than a decade: as on a linear axis.
                0..=2 => self.round_ticks(),
                3..=8 => fine,
                _ => of(&[1.0]).filter(is_inside).collect(),
            };
        }
        self.round_ticks()
    }

    fn round_ticks(&self) -> Vec<f64> {
        let rough = (self.most - self.least) / 6.5;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let first = (self.least / step).ceil() as i64;
        let last = (self.most / step).floor() as i64;
        (first..=last.min(first.saturating_add(20))).map(|tick| tick as f64 * step).collect()
    }
}

/// A number in a few characters.
fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let ticks = |least, most, logarithmic| {
            let axis = Axis { least, most, logarithmic, start: 0.0, end: 1.0 };
            axis.ticks().into_iter().map(number).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(0.0, 20_000.0, false), "0 5000 10k 15k 20k");
        assert_eq!(ticks(-3.0, 44.0, false), "0 10 20 30 40");
        assert_eq!(ticks(0.9, 9.3, true), "1 2 5");
        assert_eq!(ticks(2.1, 3.3, true), "2.2 2.4 2.6 2.8 3 3.2");
        assert_eq!(ticks(0.001, 9.0, true), "0.001 0.01 0.1 1");
    }

    #[test]
    fn one_value_can_be_drawn() {
        for logarithmic in [false, true] {
            for value in [3.0, 1e-9, 1e9] {
                let axis = Axis::new([value].into_iter(), logarithmic, 100.0, 0.0);
                assert!((axis.place(value) - 50.0).abs() < 1e-6);
                assert!(axis.ticks().len() < 25);
            }
        }
    }
}
