//! Tasks parted into groups by how well their gradients agree: agglomerative clustering with average linkage (Sokal and Michener 1958).

use std::collections::BTreeMap;

/// Mean affinity of the pairs of tasks of each run, over what was added.
pub(super) struct Affinities(BTreeMap<String, Pairs>);

/// Sum and number of the affinities of each pair of tasks.
type Pairs = BTreeMap<(String, String), (f64, usize)>;

/// A task with its group.
#[derive(Debug, PartialEq)]
pub(super) struct Grouped {
    pub(super) run: String,
    /// Number of the group, from 1.
    pub(super) model: i32,
    pub(super) task: String,
    /// Mean affinity of the task to the others of its group; `None` where it is alone.
    pub(super) cohesion: Option<f64>,
}

impl Affinities {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, run: &str, task: &str, other: &str, value: f64) {
        let pairs = self.0.entry(run.to_owned()).or_default();
        let (sum, count) = pairs.entry((task.to_owned(), other.to_owned())).or_default();
        *sum += value;
        *count += 1;
    }
}

/// Joins the two groups whose tasks agree best on average, again and again, until there are `models` of them.
pub(super) fn groups(affinities: &Affinities, models: usize) -> Vec<Grouped> {
    let mut rows = Vec::new();
    for (run, pairs) in &affinities.0 {
        let mut tasks: Vec<&str> = pairs.keys().flat_map(|(a, b)| [a.as_str(), b.as_str()]).collect();
        tasks.sort_unstable();
        tasks.dedup();
        let affinity =
            |a: &str, b: &str| pairs.get(&(a.to_owned(), b.to_owned())).map_or(0.0, |(sum, count)| sum / *count as f64);
        let mean = |a: &[&str], b: &[&str]| {
            let sum: f64 = a.iter().flat_map(|a| b.iter().map(|b| affinity(a, b))).sum();
            sum / (a.len() * b.len()) as f64
        };
        let mut groups: Vec<Vec<&str>> = tasks.into_iter().map(|task| vec![task]).collect();
        while groups.len() > models.max(1) {
            let all = (0..groups.len()).flat_map(|a| (a + 1..groups.len()).map(move |b| (a, b)));
            // The first of equals, so that the answer does not depend on anything but the names.
            let best = all
                .map(|(a, b)| (mean(&groups[a], &groups[b]), a, b))
                .reduce(|best, next| if next.0 > best.0 { next } else { best });
            let Some((_, a, b)) = best else { break };
            let joined = groups.remove(b);
            groups[a].extend(joined);
            groups[a].sort_unstable();
        }
        groups.sort();
        for (number, group) in groups.iter().enumerate() {
            for task in group {
                let others: Vec<&str> = group.iter().copied().filter(|other| other != task).collect();
                let cohesion = (!others.is_empty()).then(|| mean(&[task], &others));
                rows.push(Grouped { run: run.clone(), model: number as i32 + 1, task: (*task).to_owned(), cohesion });
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parted(models: usize) -> Vec<(i32, String)> {
        let mut affinities = Affinities::new();
        for (a, b, value) in
            [("a", "b", 0.9), ("c", "d", 0.8), ("a", "c", 0.1), ("a", "d", 0.1), ("b", "c", 0.2), ("b", "d", 0.0)]
        {
            affinities.add("run", a, b, value);
            affinities.add("run", b, a, value);
        }
        groups(&affinities, models).into_iter().map(|row| (row.model, row.task)).collect()
    }

    #[test]
    fn tasks_that_agree_share_a_model() {
        let of = |groups: &[(i32, &str)]| groups.iter().map(|(n, t)| (*n, (*t).to_owned())).collect::<Vec<_>>();
        assert_eq!(parted(1), of(&[(1, "a"), (1, "b"), (1, "c"), (1, "d")]));
        assert_eq!(parted(2), of(&[(1, "a"), (1, "b"), (2, "c"), (2, "d")]));
        assert_eq!(parted(3), of(&[(1, "a"), (1, "b"), (2, "c"), (3, "d")]));
        assert_eq!(parted(9).len(), 4);
    }
}
