//! Where the words for moments go that lie too close together for words.

/// A word, where it belongs and where it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// The moment's place.
    pub at: i32,
    /// The word's place.
    pub drawn: i32,
    /// The word; several where moments coincide.
    pub text: String,
}

/// The width of an upright word with some air.
const APART: i32 = 17;

/// Places the words in the order of their moments, none closer than [`APART`] to the next, and all together as near to
/// their moments as that lets them. Moments of one place share a word.
pub(super) fn spread<'a>(marks: impl Iterator<Item = (i32, &'a str)>) -> Vec<Label> {
    let mut labels: Vec<Label> = Vec::new();
    for (at, text) in marks {
        match labels.last_mut().filter(|last| at - last.at < 2) {
            Some(last) => last.text = format!("{}, {text}", last.text),
            None => labels.push(Label {
                at,
                drawn: at,
                text: text.to_owned(),
            }),
        }
    }
    // Groups of words that push each other, each around the middle of its moments.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for index in 0..labels.len() {
        groups.push((index, index + 1));
        while let [.., (_, left_end), (right, _)] = groups[..] {
            if labels[left_end - 1].drawn + APART <= labels[right].drawn {
                break;
            }
            let Some((_, end)) = groups.pop() else { break };
            if let Some(last) = groups.last_mut() {
                last.1 = end;
                place(&mut labels[last.0..end]);
            }
        }
    }
    labels
}

fn place(group: &mut [Label]) {
    let count = group.len() as i32;
    let middle = group.iter().map(|label| label.at).sum::<i32>() / count.max(1);
    let mut x = middle - (count - 1) * APART / 2;
    for label in group {
        label.drawn = x;
        x += APART;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_apart_and_in_order_and_far_ones_stay_where_they_are() {
        let at = [100, 104, 109, 130, 300, 301, 305, 900];
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let labels = spread(at.into_iter().zip(names));
        let texts: Vec<&str> = labels.iter().map(|label| label.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "c", "d", "e, f", "g", "h"]);
        for pair in labels.windows(2) {
            assert!(pair[1].drawn - pair[0].drawn >= APART, "{pair:?}");
        }
        assert_eq!(labels[6].drawn, 900);
        assert!(
            labels.iter().all(|label| (label.drawn - label.at).abs() <= 2 * APART),
            "{labels:?}"
        );
        assert!(spread(std::iter::empty()).is_empty());
    }
}
