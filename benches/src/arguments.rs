//! What is said behind the name of a benchmark that reads its words itself.

/// The seconds for each measurement, if a word is a number, and the other words. `cargo bench` adds one of its own, which is
/// left out.
pub fn bench_arguments() -> (Option<f64>, Vec<String>) {
    sorted(std::env::args().skip(1))
}

fn sorted(words: impl Iterator<Item = String>) -> (Option<f64>, Vec<String>) {
    let mut seconds = None;
    let mut others = Vec::new();
    for word in words.filter(|word| word != "--bench") {
        match word.parse() {
            Ok(number) => seconds = Some(number),
            Err(_) => others.push(word),
        }
    }
    (seconds, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_seconds_and_the_rest_names() {
        let words = ["B3", "--bench", "0.5", "B4"].map(String::from);
        let (seconds, others) = sorted(words.into_iter());
        assert_eq!(seconds, Some(0.5));
        assert_eq!(others, ["B3", "B4"]);
    }
}
