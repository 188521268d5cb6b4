//! One event as one line of JSON.

use serde_json::{Map, Value};
use std::error::Error;
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What every line begins with; fields of these names get a `_` behind them.
const FIRST: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Formats events; the fields of spans must have been formatted as JSON.
pub(super) struct JsonLines {
    of_process: Vec<(&'static str, String)>,
}

impl JsonLines {
    /// Lines that have these fields, too.
    pub(super) fn new(of_process: Vec<(&'static str, String)>) -> Self {
        Self { of_process }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        for (name, value) in &self.of_process {
            fields.put(name, Value::from(value.as_str()));
        }
        // From the outermost span inwards: the nearest one wins, and the event wins over all.
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>();
            if let Some(Ok(Value::Object(of_span))) = formatted.map(|text| serde_json::from_str(text)) {
                of_span.into_iter().for_each(|(name, value)| fields.put(&name, value));
            }
        }
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        // Events of the crate `log` name their place in a field.
        let target = fields.take("log.target");
        for name in ["log.module_path", "log.file", "log.line"] {
            fields.take(name);
        }
        let metadata = event.metadata();
        write!(
            writer,
            "{{\"timestamp\":{},\"level\":\"{}\",\"target\":{},\"message\":{}",
            Value::from(time),
            metadata.level(),
            target.unwrap_or_else(|| Value::from(metadata.target())),
            Value::from(fields.message),
        )?;
        for (name, value) in &fields.others {
            write!(writer, ",{}:{value}", Value::from(name.as_str()))?;
        }
        writeln!(writer, "}}")
    }
}

/// The fields of an event, and of what is around it.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let behind = if FIRST.contains(&name) { "_" } else { "" };
        self.others.insert(format!("{name}{behind}"), value);
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.others.remove(name)
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field.name(), Value::from(value));
        }
    }

    /// With all its causes, unless a message repeats its cause's.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.ends_with(&said) {
                // Writing into a String does not fail.
                let _ = write!(text, ": {said}");
            }
            cause = error.source();
        }
        self.put(field.name(), Value::from(text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::format::JsonFields;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Failed(&'static str, #[source] Option<Box<Failed>>);

    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let to = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines::new(vec![
                ("namespace", "shop".into()),
                ("unit", "east-1".into()),
            ]))
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_is_one_flat_object_and_the_nearest_field_wins() {
        let error = Failed(
            "applying",
            Some(Box::new(Failed("sending", Some(Box::new(Failed("refused", None)))))),
        );
        let lines = lines(|| {
            let _outer = tracing::info_span!("unit", unit = "north-1", store = "orders").entered();
            let _inner = tracing::info_span!("operation", operation = "move", store = "carts").entered();
            let error: &dyn Error = &error;
            tracing::warn!(epoch = %"1.7", count = 3, level = "odd", error, "two\nlines of \"text\"");
            tracing::info!(unit = "south-1", "plain");
        });
        let [first, second] = &lines[..] else {
            panic!("{lines:?}");
        };
        for (name, want) in [
            ("level", Value::from("WARN")),
            ("target", Value::from(module_path!())),
            ("message", Value::from("two\nlines of \"text\"")),
            ("namespace", Value::from("shop")),
            ("unit", Value::from("north-1")),
            ("store", Value::from("carts")),
            ("operation", Value::from("move")),
            ("epoch", Value::from("1.7")),
            ("count", Value::from(3)),
            ("level_", Value::from("odd")),
            ("error", Value::from("applying: sending: refused")),
        ] {
            assert_eq!(first[name], want, "{name}");
        }
        assert!(first["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
        assert_eq!(
            (&second["unit"], &second["message"]),
            (&"south-1".into(), &"plain".into())
        );
    }

    #[test]
    fn a_message_that_repeats_its_cause_is_not_repeated() {
        let error = Failed("sending: refused", Some(Box::new(Failed("refused", None))));
        let lines = lines(|| {
            let error: &dyn Error = &error;
            tracing::error!(error, "failed");
        });
        assert_eq!(lines[0]["error"], "sending: refused");
    }
}
