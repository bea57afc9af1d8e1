//! The study as one HTML page that needs nothing else: tables, and charts as SVG.

use super::bootstrap::Interval;
use super::chart::{self, Bar, Heat, Line, Panel};
use super::summary::{Summary, TaskResult};
use super::{ALL, MULTI, SHUFFLED, STYLE};
use crate::train::fit::Error;
use std::fmt::Write;

const STYLE_SHEET: &str = "
body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;max-width:1060px;margin:2rem auto;padding:0 1rem;background:#fff}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d7dde5;padding-bottom:.2rem}
h3{font-size:1rem;margin-bottom:.3rem}p,figcaption{max-width:75ch}figure{margin:1rem 0}figcaption{color:#55606e;font-size:.87rem}
svg{max-width:100%;height:auto}table{border-collapse:collapse;font-size:.87rem;margin:.6rem 0}
th,td{padding:.2rem .6rem;border-bottom:1px solid #e6eaf0;text-align:left;vertical-align:top}th{font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.below{color:#a3281c;font-weight:600}.note{color:#55606e}
.pair{display:flex;flex-wrap:wrap;gap:0 1.5rem}.pair figure{flex:1 1 30rem;max-width:32rem}";

/// The page of a study.
///
/// # Errors
/// [`Error::Invalid`] where a chart can't be drawn.
pub fn page(summary: &Summary) -> Result<String, Error> {
    let mut html = String::new();
    head(&mut html, summary);
    scores(&mut html, summary)?;
    foretold(&mut html, summary)?;
    heat_maps(&mut html, summary)?;
    steps(&mut html, summary)?;
    curves(&mut html, summary)?;
    verdicts(&mut html, summary);
    settings(&mut html, summary);
    html.push_str("</body></html>\n");
    Ok(html)
}

/// Text as HTML.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A task's name as people read it.
pub(super) fn label(task: &str) -> String {
    let name = task.replace('_', " ").replace("stenosis left", "left").replace("stenosis right", "right");
    if task == STYLE || task == SHUFFLED { format!("{name} (control)") } else { name }
}

fn head(html: &mut String, summary: &Summary) {
    let regions: Vec<&str> = summary.regions.iter().map(|r| r.region.as_str()).collect();
    let _ = write!(
        html,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>When can one multi-task model stand in?</title><style>{STYLE_SHEET}</style></head><body>\
         <h1>When can one multi-task model stand in for the task-specific ones?</h1>\
         <p class=\"note\">foramen-train study: {} networks of {} layers, {} steps each; {}; seeds {:?}. Trained on synthetic reports. Not a medical device.</p>",
        summary.networks,
        summary.config.layers,
        summary.config.steps,
        regions.join(" and "),
        summary.seeds,
    );
    let findings: Vec<&TaskResult> = summary.results.iter().filter(|r| !r.control).collect();
    let within = findings.iter().filter(|r| r.stands_in()).count();
    let above = findings.iter().filter(|r| r.gain.is_some_and(|g| g.lower > 0.0)).count();
    let below = findings.iter().filter(|r| r.gain.is_some_and(|g| g.upper < 0.0)).count();
    let _ = write!(
        html,
        "<p>The shared network is within the interval of a task's own network, or above it, in <b>{within} of {}</b> comparisons (a task on a test set). \
         Its macro-F1 is higher with 95 % confidence in {above}, lower in {below}.",
        findings.len()
    );
    for rule in summary.rules.iter().filter(|r| r.measure == "cosine" && r.truth != "trained: macro-F1") {
        let _ = write!(
            html,
            " Whether sharing helps two tasks ({}) is foretold rightly by their gradients' cosine in <b>{:.0} %</b> of {} pairs that the threshold was not chosen on; \
             always saying what most pairs do is right in {:.0} %.",
            text(&rule.truth),
            100.0 * rule.accuracy,
            rule.pairs,
            100.0 * rule.baseline
        );
    }
    html.push_str("</p>");
}

fn figure(html: &mut String, svg: &str, caption: &str) {
    let _ = write!(html, "<figure>{svg}<figcaption>{caption}</figcaption></figure>");
}

fn interval(value: Option<Interval>) -> String {
    let text =
        |i: Interval| format!("{:.3} <span class=\"note\">({:.3} to {:.3})</span>", i.estimate, i.lower, i.upper);
    value.map_or("–".into(), |i| text(i).replace("-0.000", "0.000"))
}

fn scores(html: &mut String, summary: &Summary) -> Result<(), Error> {
    html.push_str("<h2>Scores</h2><p>Macro-F1 of each task by a network of its own, by the shared network, and by the shared network that must learn the controls too.</p>");
    for region in &summary.regions {
        for set in summary.sets(&region.region) {
            let of: Vec<&TaskResult> =
                summary.results.iter().filter(|r| r.region == region.region && r.set == set).collect();
            let rows = of.first().map_or(0, |r| r.rows);
            let _ = write!(html, "<h3>{}, {}</h3>", text(&region.region), set_name(set, rows));
            let bars = of.iter().map(|r| Bar { label: label(&r.task), values: vec![Some(r.single), r.multi, r.all] });
            let svg = chart::bars(&bars.collect::<Vec<_>>(), &["own network", "shared", "shared, with controls"])?;
            figure(html, &svg, "Bars: mean over seeds. Lines: 95 % intervals by a bootstrap over reports and seeds.");
            html.push_str("<table><tr><th>task</th><th class=n>own network</th><th class=n>shared</th><th class=n>shared less own</th><th class=n>what the controls cost</th><th></th></tr>");
            for r in of {
                let shared = if r.control { r.all } else { r.multi };
                let mark = if r.stands_in() { "" } else { "<span class=below>below</span>" };
                let cells = [Some(r.single), shared, r.gain, r.cost].map(interval);
                let cells: String = cells.iter().map(|cell| format!("<td class=n>{cell}</td>")).collect();
                let _ = write!(html, "<tr><td>{}</td>{cells}<td>{mark}</td></tr>", text(&label(&r.task)));
            }
            html.push_str("</table>");
        }
    }
    Ok(())
}

fn set_name(set: &str, rows: usize) -> String {
    let name = if set == "synthetic" { "held-out synthetic reports".to_owned() } else { text(set) };
    format!("{name} ({rows} motion segments)")
}

fn foretold(html: &mut String, summary: &Summary) -> Result<(), Error> {
    html.push_str(
        "<h2>What alignment foretells</h2><p>Each point is a pair of tasks. <i>Trained</i>: the pair was trained together, and the held-out loss (or macro-F1) of both compared \
         with their own networks'. <i>Look-ahead</i>: by what share a step along one task's gradient lowers the other's loss (Fifty et al. 2021), in the network of all tasks; to first order that \
         is a matter of the gradients' cosine, so agreement there is to be expected. The threshold that foretells a region's pairs was chosen on the other region's.</p>",
    );
    type Of = fn(&super::Pair) -> Option<f64>;
    let shown: [(&str, Of); 2] =
        [("gain in held-out loss, trained", |p| p.gain), ("look-ahead effect", |p| p.look_ahead)];
    html.push_str("<div class=pair>");
    for (name, value) in shown {
        let point = |p: &super::Pair| Some((p.cosine?, value(p)?, p.control));
        let points: Vec<_> = summary.pairs.iter().filter_map(point).collect();
        if !points.is_empty() {
            let svg = chart::scatter(&points, "gradient cosine", name)?;
            figure(html, &svg, "Blue: two tasks of findings. Orange: one is a control.");
        }
    }
    html.push_str("</div><table><tr><th>measure</th><th>sharing helped, by</th><th class=n>pairs</th><th class=n>helped</th><th class=n>rank correlation</th><th class=n>foretold rightly</th><th class=n>by majority</th><th class=n>threshold</th></tr>");
    for r in &summary.rules {
        let (low, high) = r.interval.unwrap_or((f64::NAN, f64::NAN));
        let correlation =
            r.correlation.map_or("–".into(), |c| format!("{c:.2} <span class=note>({low:.2} to {high:.2})</span>"));
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=n>{}</td><td class=n>{:.0} %</td><td class=n>{correlation}</td><td class=n>{:.0} %</td><td class=n>{:.0} %</td><td class=n>{:.3}</td></tr>",
            text(&r.measure),
            text(&r.truth),
            r.pairs,
            100.0 * r.helped,
            100.0 * r.accuracy,
            100.0 * r.baseline,
            r.threshold
        );
    }
    html.push_str("</table>");
    Ok(())
}

fn heat_maps(html: &mut String, summary: &Summary) -> Result<(), Error> {
    html.push_str("<h2>Representations and gradients</h2>");
    for region in &summary.regions {
        let (name, tasks) = (region.region.as_str(), &region.tasks);
        let layers: Vec<i64> = (0..=summary.config.layers as i64).collect();
        let layer_names: Vec<String> =
            layers.iter().map(|l| if *l == 0 { "embeddings".into() } else { format!("layer {l}") }).collect();
        let task_names: Vec<String> = tasks.iter().map(|task| label(task)).collect();
        let by_layer = |other: &dyn Fn(&str, i64) -> Option<f64>| -> Vec<Vec<Option<f64>>> {
            tasks.iter().map(|task| layers.iter().map(|layer| other(task, *layer)).collect()).collect()
        };
        let to_shared = by_layer(&|task, layer| summary.at_layer(name, layer, task, MULTI, |p| p.similarity));
        let others = |task: &str, layer: i64, value: fn(&super::Aligned) -> Option<f64>| {
            let values: Vec<f64> = tasks
                .iter()
                .filter(|other| *other != task && *other != STYLE && *other != SHUFFLED)
                .filter_map(|other| summary.at_layer(name, layer, task, other, value))
                .collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let to_rest = by_layer(&|task, layer| others(task, layer, |p| p.similarity));
        let cosine = by_layer(&|task, layer| others(task, layer, |p| p.cosine));
        let _ = write!(html, "<h3>{}</h3><div class=pair>", text(name));
        let maps = [
            (
                to_shared,
                false,
                "Similarity of each task's own network to the shared one (debiased linear CKA), layer by layer.",
            ),
            (to_rest, false, "Similarity of each task's own network to the other tasks' of findings."),
            (
                cosine,
                true,
                "Cosine of each task's gradient with those of the other tasks of findings, in the network of all tasks, over all steps.",
            ),
        ];
        for (values, signed, caption) in maps {
            let heat = Heat { rows: &task_names, columns: &layer_names, values: &values, signed };
            figure(html, &chart::heat(&heat)?, caption);
        }
        html.push_str("</div><div class=pair>");
        type Of = fn(&super::Pair) -> Option<f64>;
        let matrices: [(Of, bool, &str); 2] = [
            (|p| p.similarity, false, "Similarity of pairs of tasks, mean over the layers."),
            (|p| p.cosine, true, "Gradient cosine of pairs of tasks, mean over layers and steps."),
        ];
        for (value, signed, caption) in matrices {
            let of = |a: &String, b: &String| {
                let same = |p: &&super::Pair| {
                    p.region == name && ((&p.task == a && &p.other == b) || (&p.task == b && &p.other == a))
                };
                summary.pairs.iter().find(same).and_then(value)
            };
            let values: Vec<Vec<Option<f64>>> =
                tasks.iter().map(|a| tasks.iter().map(|b| of(a, b)).collect()).collect();
            let heat = Heat { rows: &task_names, columns: &task_names, values: &values, signed };
            figure(html, &chart::heat(&heat)?, caption);
        }
        html.push_str("</div>");
    }
    Ok(())
}

fn steps(html: &mut String, summary: &Summary) -> Result<(), Error> {
    html.push_str("<h2>Gradient cosine over training</h2><div class=pair>");
    for region in &summary.regions {
        let lines = region.tasks.iter().enumerate().map(|(at, task)| Line {
            label: label(task),
            points: summary.cosine_at_steps(&region.region, task).iter().map(|(s, c)| (*s as f64, *c)).collect(),
            colour: at,
            dashed: task == STYLE || task == SHUFFLED,
        });
        let panel = Panel { title: String::new(), lines: lines.collect() };
        let svg = chart::lines(&[panel], 1, (520, 360), true)?;
        figure(
            html,
            &svg,
            &format!("{}: mean cosine with the other tasks of findings; dashed: controls.", text(&region.region)),
        );
    }
    html.push_str("</div>");
    Ok(())
}

fn curves(html: &mut String, summary: &Summary) -> Result<(), Error> {
    html.push_str("<h2>Learning curves</h2>");
    for region in &summary.regions {
        let panels = region.tasks.iter().map(|task| {
            let line = |network: &str, colour: usize, label: &str| Line {
                label: label.into(),
                points: summary
                    .curves
                    .iter()
                    .filter(|p| p.region == region.region && p.task == *task && p.network == network)
                    .map(|p| (p.step as f64, p.loss))
                    .collect(),
                colour,
                dashed: false,
            };
            let lines = vec![line("own", 0, "own"), line(MULTI, 1, "shared"), line(ALL, 2, "with controls")];
            Panel { title: label(task), lines }
        });
        let panels: Vec<Panel> = panels.collect();
        let height = 190 * panels.len().div_ceil(4) as u32;
        let svg = chart::lines(&panels, 4, (1040, height), false)?;
        figure(
            html,
            &svg,
            &format!(
                "{}: mean cross-entropy on held-out synthetic segments by steps taken. Blue: own network; orange: shared; green: shared, with controls.",
                text(&region.region)
            ),
        );
    }
    Ok(())
}

fn verdicts(html: &mut String, summary: &Summary) {
    html.push_str("<h2>Verdict</h2><p>Of <code>sharing_verdict</code> and <code>task_groups</code> in SQL: the verdict that most seeds gave, and the tasks that would go together in two models.</p>");
    for region in &summary.regions {
        let _ = write!(
            html,
            "<h3>{}</h3><table><tr><th>task</th><th>verdict</th><th class=n>seeds</th><th>reason, of the first of these</th><th class=n>model of two</th></tr>",
            text(&region.region)
        );
        let run = summary.seeds.first().map(|seed| format!("{}-{seed}", region.region)).unwrap_or_default();
        for task in &region.tasks {
            let Some((verdict, votes, of, reason)) = summary.verdict(&region.region, task) else { continue };
            let group = summary.alignment.groups.iter().find(|g| g.run == run && g.task == *task);
            let group = group.map_or("–".into(), |g| g.model.to_string());
            let _ = write!(
                html,
                "<tr><td>{}</td><td>{}</td><td class=n>{votes} of {of}</td><td>{}</td><td class=n>{group}</td></tr>",
                text(&label(task)),
                text(&verdict),
                text(&reason)
            );
        }
        html.push_str("</table>");
    }
}

fn settings(html: &mut String, summary: &Summary) {
    let c = &summary.config;
    let _ = write!(
        html,
        "<h2>How</h2><p>Every network starts from the same pretrained encoder, cut to {} layers, and takes {} steps of {} motion segments, in the same order for all networks of a seed; peak rate {} \
         (heads {}). {} networks took {:.0} minutes of training.",
        c.layers,
        c.steps,
        c.batch,
        c.rate,
        c.head_rate,
        summary.networks,
        summary.seconds / 60.0
    );
    for region in &summary.regions {
        let _ = write!(
            html,
            " {}: {} synthetic reports with {} motion segments to learn from.",
            text(&region.region),
            region.reports,
            region.rows
        );
    }
    let _ = write!(
        html,
        " Scores are over the motion segments that the report grammar finds. The control <i>{STYLE}</i> (does the writer use sentences or notes) can be learnt and has nothing to do with findings; \
         <i>{SHUFFLED}</i> is the grades of the first task dealt out by chance, and cannot be learnt. Only the network of all tasks learns the controls.</p>"
    );
}
