//! Reading back what the kernel holds, comparing it with what is wanted, and
//! the one input of `iptables-restore` that leads from the one to the other.

use crate::rule::{CHAIN_PREFIX, COMMENT, RuleSet, Table};

/// The rules of ours in one IP version's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    tables: Vec<SavedTable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SavedTable {
    name: String,
    /// Our own chains.
    chains: Vec<String>,
    rules: Vec<SavedRule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SavedRule {
    chain: String,
    /// The rule's place in its chain, from 1, counting the rules of others.
    place: usize,
    /// What follows the chain in the output of `iptables-save`.
    text: String,
}

impl Saved {
    /// Picks our rules out of the output of `iptables-save`.
    #[must_use]
    pub fn parse(output: &str) -> Self {
        let mut tables: Vec<SavedTable> = Vec::new();
        let mut places: Vec<(String, usize)> = Vec::new();
        for line in output.lines() {
            if let Some(name) = line.strip_prefix('*') {
                places.clear();
                tables.push(SavedTable {
                    name: name.to_owned(),
                    chains: Vec::new(),
                    rules: Vec::new(),
                });
            }
            let Some(table) = tables.last_mut() else {
                continue;
            };
            if let Some(declared) = line.strip_prefix(':') {
                let chain = declared.split(' ').next().unwrap_or(declared);
                if is_our_chain(chain) {
                    table.chains.push(chain.to_owned());
                }
            } else if let Some((chain, text)) =
                line.strip_prefix("-A ").and_then(|rest| rest.split_once(' '))
            {
                let place = next_place(&mut places, chain);
                if is_our_chain(chain) || is_our_rule(text) {
                    table.rules.push(SavedRule {
                        chain: chain.to_owned(),
                        place,
                        text: text.to_owned(),
                    });
                }
            }
        }
        tables.retain(|table| !table.chains.is_empty() || !table.rules.is_empty());
        Self { tables }
    }

    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The first rule or chain in which the kernel's state and the wanted one
    /// differ; `None` if they are the same.
    #[must_use]
    pub fn difference(&self, wanted: &RuleSet) -> Option<String> {
        let mut here = Vec::new();
        for table in &self.tables {
            here.extend(table.chains.iter().map(|chain| format!("{} chain {chain}", table.name)));
            for rule in &table.rules {
                here.push(format!("{} {} {}", table.name, rule.chain, normal(&rule.text)));
            }
        }
        let mut there = Vec::new();
        for table in Table::ALL {
            there.extend(wanted.chains(table).iter().map(|chain| format!("{table} chain {chain}")));
            for rule in wanted.in_table(table) {
                there.push(format!("{table} {} {}", rule.chain, normal(&rule.to_string())));
            }
        }
        // Within a chain the order counts, between chains it does not.
        let chain = |line: &String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let group = |lines: &mut Vec<String>| {
            lines.sort_by(|one, other| {
                let (a, b) = (chain(one), chain(other));
                let declaration = a.ends_with(" chain");
                a.cmp(&b).then_with(|| {
                    if declaration { one.cmp(other) } else { std::cmp::Ordering::Equal }
                })
            });
        };
        group(&mut here);
        group(&mut there);
        if here == there {
            return None;
        }
        let same = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
        there.get(same).or_else(|| here.get(same)).cloned()
    }

    /// The input of `iptables-restore --noflush` that leads from here to `wanted`.
    #[must_use]
    pub fn replaced_by(&self, wanted: &RuleSet) -> String {
        let additions = Table::ALL.map(|table| Additions {
            table: table.to_string(),
            chains: wanted.chains(table).iter().map(ToString::to_string).collect(),
            lines: wanted.lines(table),
        });
        self.transition(&additions)
    }

    /// As [`Saved::replaced_by`], back to an earlier state, each rule in its old place.
    #[must_use]
    pub fn returned_to(&self, earlier: &Self) -> String {
        let additions = Table::ALL.map(|table| {
            let name = table.to_string();
            let saved = earlier.tables.iter().find(|saved| saved.name == name);
            let rule = |rule: &SavedRule| {
                let SavedRule { chain, place, text } = rule;
                format!("-I {chain} {place} {text}")
            };
            Additions {
                table: name,
                chains: saved.map(|saved| saved.chains.clone()).unwrap_or_default(),
                lines: saved
                    .map(|saved| saved.rules.iter().map(rule).collect())
                    .unwrap_or_default(),
            }
        });
        self.transition(&additions)
    }

    fn transition(&self, additions: &[Additions]) -> String {
        let mut text = String::new();
        for wanted in additions {
            let current = self.tables.iter().find(|table| table.name == wanted.table);
            let chains = current.map(|table| table.chains.as_slice()).unwrap_or_default();
            if current.is_none() && wanted.lines.is_empty() {
                continue;
            }
            text.push_str(&format!("*{}\n", wanted.table));
            // Declaring a chain makes or empties it.
            let kept = wanted.chains.iter();
            let gone: Vec<_> =
                chains.iter().filter(|chain| !wanted.chains.contains(chain)).collect();
            for chain in kept.chain(gone.iter().copied()) {
                text.push_str(&format!(":{chain} - [0:0]\n"));
            }
            for rule in current.iter().flat_map(|table| &table.rules) {
                if !is_our_chain(&rule.chain) {
                    text.push_str(&format!("-D {} {}\n", rule.chain, rule.text));
                }
            }
            for line in &wanted.lines {
                text.push_str(line);
                text.push('\n');
            }
            for chain in gone {
                text.push_str(&format!("-X {chain}\n"));
            }
            text.push_str("COMMIT\n");
        }
        text
    }
}

struct Additions {
    table: String,
    chains: Vec<String>,
    lines: Vec<String>,
}

fn is_our_chain(chain: &str) -> bool {
    chain.starts_with(CHAIN_PREFIX)
}

/// A rule in a chain of the system is ours if it jumps to a chain of ours or
/// carries our comment.
fn is_our_rule(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    words.windows(2).any(|pair| match pair {
        ["-j" | "-g", target] => is_our_chain(target),
        ["--comment", comment] => comment.trim_matches('"') == COMMENT,
        _ => false,
    })
}

fn next_place(places: &mut Vec<(String, usize)>, chain: &str) -> usize {
    if let Some((_, place)) = places.iter_mut().find(|(name, _)| name == chain) {
        *place += 1;
        return *place;
    }
    places.push((chain.to_owned(), 1));
    1
}

/// The rule without what its text may vary in: the order of conditions, and
/// the names of the modules that implement them.
fn normal(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut negated = false;
    let mut skip = false;
    for word in text.split_whitespace().map(|word| word.trim_matches('"')) {
        match word {
            "!" => negated = true,
            "-m" => skip = true,
            _ if skip => skip = false,
            _ if word.starts_with('-') => {
                let not = if std::mem::take(&mut negated) { "! " } else { "" };
                parts.push(format!("{not}{word}"));
            }
            _ => match parts.last_mut() {
                Some(part) => {
                    part.push(' ');
                    part.push_str(word);
                }
                None => parts.push(word.to_owned()),
            },
        }
    }
    parts.sort();
    parts.join(" ")
}

#[cfg(test)]
mod tests;
