//! Statements as they stand in the log: which of them change neither tables nor rows. Pure.
//!
//! Rows stand there as rows. So a statement is the frame of a transaction, or something that may have changed any table, by its own
//! name or another one's: only what is known to change none is passed over.

use super::rows::{Damaged, Reader};

/// How those begin.
const HARMLESS: [&str; 11] = [
    "SAVEPOINT ",
    "ROLLBACK TO ",
    "CREATE TEMPORARY TABLE ",
    "DROP TEMPORARY TABLE ",
    "DROP /*!40005 TEMPORARY */ TABLE ",
    "FLUSH ",
    "GRANT ",
    "REVOKE ",
    "CREATE USER ",
    "ALTER USER ",
    "DROP USER ",
];

/// Whether the statement of an event changes neither a table nor a row.
pub(crate) fn changes_nothing(event: &[u8]) -> bool {
    text(event).is_ok_and(is_harmless)
}

/// The statement's text: behind who ran it, when, in which database, and with which settings.
fn text(event: &[u8]) -> Result<&[u8], Damaged> {
    let mut reader = Reader(event);
    reader.take(8)?;
    let database = reader.len(1)?;
    reader.take(2)?;
    let settings = reader.len(2)?;
    reader.take(settings + database + 1)?;
    Ok(reader.0)
}

fn is_harmless(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let begins = |with: &&str| {
        text.get(..with.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(with))
    };
    let whole = ["BEGIN", "COMMIT", "ROLLBACK"];
    // What is selected may be a routine that changes rows.
    let selects = || text.to_ascii_uppercase().contains("SELECT");
    let frames = whole.iter().any(|whole| text.eq_ignore_ascii_case(whole));
    let harmless = HARMLESS.iter().any(begins);
    frames || (harmless && (text.starts_with("GRANT ") || text.starts_with("REVOKE ") || !selects()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_frames_transactions_or_is_about_users_changes_nothing() {
        let event = |text: &str| [&[0; 8][..], &[4, 0, 0, 2, 0, 9, 9], b"shop\0", text.as_bytes()].concat();
        for text in [
            "BEGIN",
            "COMMIT",
            "savepoint `s`",
            "ROLLBACK TO `s`",
            "GRANT SELECT ON shop.* TO a@b",
            "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `orders`",
            "FLUSH TABLES",
        ] {
            assert!(changes_nothing(&event(text)), "{text}");
        }
        for text in [
            "",
            "BEGIN; DELETE FROM orders",
            "ALTER TABLE orders ADD COLUMN a INT",
            "TRUNCATE TABLE orders",
            "/* GRANT */ DROP DATABASE shop",
            "ANALYZE UPDATE orders SET amount = 1",
            "UPDATE v SET amount = 2",
            "CREATE TEMPORARY TABLE t SELECT changes_rows()",
            "XA COMMIT X'61',X'',1",
            "CREATE TABLE other (a INT)",
        ] {
            assert!(!changes_nothing(&event(text)), "{text}");
        }
        assert!(!changes_nothing(&event("BEGIN")[..14]), "it is cut off");
    }
}
