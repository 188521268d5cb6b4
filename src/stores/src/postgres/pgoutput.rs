//! Reads PostgreSQL's logical replication messages, protocol version 1, as `pgoutput` writes them
//! (<https://www.postgresql.org/docs/18/protocol-logicalrep-message-formats.html>): only which keys each transaction changed.
//! Pure.

use std::collections::BTreeMap;

/// A row that a transaction of the log changed, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// The table's schema.
    pub(super) schema: String,
    /// The table's name.
    pub(super) table: String,
    /// The columns of its replica identity, each with its value as text: the primary key, or all that have a value.
    pub(super) key: BTreeMap<String, String>,
    /// When the transaction was committed, in microseconds since 2000-01-01, by the server's clock.
    pub(super) committed: i64,
}

/// A message is not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// A table as the log describes it before its first row.
struct Relation {
    schema: String,
    table: String,
    /// Each column's name, and whether it belongs to the key.
    columns: Vec<(String, bool)>,
}

/// What was said before in the same stream.
#[derive(Default)]
pub(super) struct Decoder {
    relations: BTreeMap<u32, Relation>,
    committed: i64,
}

impl Decoder {
    /// The rows that one message says were changed: none, one, or two where a key itself was changed.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: nothing that follows can be read either.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<Changed>, Damaged> {
        let mut bytes = Bytes(message);
        match bytes.byte()? {
            b'B' => {
                bytes.take(8)?;
                self.committed = bytes.long()?;
                Ok(Vec::new())
            }
            b'R' => {
                let oid = bytes.int()?;
                self.relations.insert(oid, relation(&mut bytes)?);
                Ok(Vec::new())
            }
            b'I' => {
                let oid = bytes.int()?;
                bytes.byte()?;
                self.keys(oid, [Some(tuple(&mut bytes)?), None])
            }
            b'U' => {
                let oid = bytes.int()?;
                let old = match bytes.byte()? {
                    b'K' | b'O' => {
                        let old = tuple(&mut bytes)?;
                        bytes.byte()?;
                        Some(old)
                    }
                    _ => None,
                };
                self.keys(oid, [Some(tuple(&mut bytes)?), old])
            }
            b'D' => {
                let oid = bytes.int()?;
                bytes.byte()?;
                self.keys(oid, [Some(tuple(&mut bytes)?), None])
            }
            // Commit, origin, type, message; TRUNCATE of a sharded table is refused by the fence.
            _ => Ok(Vec::new()),
        }
    }

    fn keys(&self, oid: u32, rows: [Option<Vec<Option<String>>>; 2]) -> Result<Vec<Changed>, Damaged> {
        let relation = self.relations.get(&oid).ok_or(Damaged)?;
        let key = |row: &Vec<Option<String>>| -> Result<Changed, Damaged> {
            let columns = relation.columns.iter().zip(row).filter(|((_, key), _)| *key);
            let key = columns.filter_map(|((name, _), value)| Some((name.clone(), value.clone()?)));
            Ok(Changed {
                schema: relation.schema.clone(),
                table: relation.table.clone(),
                key: key.collect(),
                committed: self.committed,
            })
        };
        rows.iter().flatten().map(key).collect()
    }
}

fn relation(bytes: &mut Bytes<'_>) -> Result<Relation, Damaged> {
    let (schema, table) = (bytes.text()?, bytes.text()?);
    bytes.byte()?;
    let count = bytes.short()?;
    let column = |_| {
        let key = bytes.byte()? & 1 == 1;
        let name = bytes.text()?;
        bytes.take(8)?;
        Ok((name, key))
    };
    let columns = (0..count).map(column).collect::<Result<_, Damaged>>()?;
    Ok(Relation { schema, table, columns })
}

/// The values of a row as text; `None` for NULL and for what the log leaves out because it did not change.
fn tuple(bytes: &mut Bytes<'_>) -> Result<Vec<Option<String>>, Damaged> {
    let count = bytes.short()?;
    let value = |_| match bytes.byte()? {
        b'n' | b'u' => Ok(None),
        b't' => {
            let length = usize::try_from(bytes.int()?).map_err(|_| Damaged)?;
            let text = std::str::from_utf8(bytes.take(length)?).map_err(|_| Damaged)?;
            Ok(Some(text.to_owned()))
        }
        _ => Err(Damaged),
    };
    (0..count).map(value).collect()
}

/// What is left of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Damaged)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        self.array().map(u8::from_be_bytes)
    }

    fn short(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_be_bytes)
    }

    fn int(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Result<i64, Damaged> {
        self.array().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Result<String, Damaged> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Damaged)?;
        let text = std::str::from_utf8(self.take(end)?).map_err(|_| Damaged)?.to_owned();
        self.take(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [b"t", &length[..], text.as_bytes()].concat()
    }

    fn row(values: &[Vec<u8>]) -> Vec<u8> {
        let count = u16::try_from(values.len()).unwrap().to_be_bytes();
        [&count[..], &values.concat()].concat()
    }

    fn begun() -> Decoder {
        let mut decoder = Decoder::default();
        let begin = [b"B", &[0; 8][..], &1234_i64.to_be_bytes(), &[0; 4]].concat();
        let relation = [
            b"R\0\0\0\x07public\0orders\0d\0\x02".as_slice(),
            b"\x01id\0\0\0\0\x19\xff\xff\xff\xff",
            b"\0amount\0\0\0\0\x17\xff\xff\xff\xff",
        ]
        .concat();
        assert_eq!(decoder.read(&begin), Ok(Vec::new()));
        assert_eq!(decoder.read(&relation), Ok(Vec::new()));
        decoder
    }

    #[test]
    fn every_kind_of_change_tells_its_key() {
        let null = || b"n".to_vec();
        let left_out = || b"u".to_vec();
        let oid = [0, 0, 0, 7];
        for (message, keys) in [
            (
                [b"I", &oid[..], b"N", &row(&[value("a"), value("1")])].concat(),
                vec!["a"],
            ),
            (
                [b"U", &oid[..], b"N", &row(&[value("a"), left_out()])].concat(),
                vec!["a"],
            ),
            (
                [
                    b"U",
                    &oid[..],
                    b"K",
                    &row(&[value("a"), null()]),
                    b"N",
                    &row(&[value("b"), value("1")]),
                ]
                .concat(),
                vec!["b", "a"],
            ),
            ([b"D", &oid[..], b"K", &row(&[value("a"), null()])].concat(), vec!["a"]),
            (b"C\0".to_vec(), vec![]),
            (b"Oorigin".to_vec(), vec![]),
        ] {
            let changed = begun().read(&message).unwrap();
            let got: Vec<_> = changed.iter().map(|changed| changed.key["id"].as_str()).collect();
            assert_eq!(got, keys, "{}", char::from(message[0]));
            for changed in changed {
                assert_eq!(
                    (changed.schema.as_str(), changed.table.as_str(), changed.committed),
                    ("public", "orders", 1234)
                );
                assert_eq!(changed.key.len(), 1, "no other column");
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_not_announced_is_damaged() {
        let whole = [b"I\0\0\0\x07N", &row(&[value("a"), value("1")])[..]].concat();
        assert_eq!(
            Decoder::default().read(&whole),
            Err(Damaged),
            "no such table was described"
        );
        for length in 0..whole.len() {
            assert_eq!(begun().read(&whole[..length]), Err(Damaged), "{length} bytes");
        }
    }
}
