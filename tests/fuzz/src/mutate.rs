//! Inputs that resemble others.

/// Numbers at which programs tend to go wrong.
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"127",
    b"128",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"2147483647",
    b"4294967295",
    b"18446744073709551615",
    b"18446744073709551616",
    b"0x10",
    b"1e9",
    b"+1",
];
/// The longest input.
const LONGEST: usize = 16 << 10;

/// Makes new inputs out of old ones; the same ones for the same seed.
#[derive(Debug)]
pub struct Mutator {
    random: fastrand::Rng,
    words: &'static [&'static str],
}

impl Mutator {
    /// A source of inputs in a language of these words.
    #[must_use]
    pub fn new(seed: u64, words: &'static [&'static str]) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), words }
    }

    /// An input made of one of these, or of two.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds.get(self.random.usize(..seeds.len().max(1))).cloned();
        let input = input.get_or_insert_default();
        for _ in 0..=self.random.u32(..6) {
            self.change(input, seeds);
        }
        input.truncate(LONGEST);
        std::mem::take(input)
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.random.usize(..=input.len());
        let end = (at + 1 + self.random.usize(..16)).min(input.len());
        match self.random.u32(..11) {
            0 => self.at(input, |byte, random| byte ^ 1 << random.u32(..8)),
            1 => self.at(input, |_, random| random.u8(..)),
            2 => self.at(input, |byte, random| byte.wrapping_add(random.u8(..4)).wrapping_sub(2)),
            3 => drop(input.drain(at..end)),
            4 => {
                let part = input[at..end].to_vec();
                insert(input, at, &part);
            }
            5 => {
                let length = self.random.usize(1..8);
                let bytes: Vec<u8> = (0..length).map(|_| self.random.u8(..)).collect();
                insert(input, at, &bytes);
            }
            6 | 7 if !self.words.is_empty() => {
                let word = self.words[self.random.usize(..self.words.len())];
                insert(input, at, word.as_bytes());
            }
            8 => {
                let number = NUMBERS[self.random.usize(..NUMBERS.len())];
                let digits = input.iter().skip(at).position(u8::is_ascii_digit).map(|n| at + n);
                let at = digits.unwrap_or(at);
                let end = input[at..].iter().position(|byte| !byte.is_ascii_digit());
                input.splice(at..end.map_or(input.len(), |end| at + end), number.iter().copied());
            }
            9 => {
                let part = input[at..end].repeat(1 << self.random.u32(..9));
                insert(input, at, &part);
            }
            _ if self.random.u32(..4) == 0 => input.truncate(at),
            _ => {
                let Some(other) = seeds.get(self.random.usize(..seeds.len().max(1))) else {
                    return;
                };
                let from = self.random.usize(..=other.len());
                let part = &other[from..self.random.usize(from..=other.len())];
                insert(input, at, part);
            }
        }
    }

    fn at(&mut self, input: &mut [u8], with: impl Fn(u8, &mut fastrand::Rng) -> u8) {
        if !input.is_empty() {
            let at = self.random.usize(..input.len());
            input[at] = with(input[at], &mut self.random);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let seeds = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, &["word"]);
            (0..500).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn without_seeds_there_are_inputs_too() {
        let mut mutator = Mutator::new(1, &[]);
        assert!((0..100).any(|_| !mutator.next(&[]).is_empty()));
    }
}
