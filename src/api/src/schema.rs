//! Schemas that fields share: every text, list and map has a maximum, so that no object grows without bound and the
//! API server can bound the cost of the rules.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A name of the form that labels, Secrets and certificates can hold.
pub const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident $json:tt)*) => {$(
        $(#[$doc])*
        pub fn $name(_: &mut SchemaGenerator) -> Schema {
            let mut schema = json_schema!($json);
            schema.insert("type".to_owned(), Value::from("string"));
            schema
        }
    )*};
}

texts! {
    /// The name of a unit, a keyspace, a cluster: a DNS-1123 label.
    label {"minLength": 1, "maxLength": 63, "pattern": LABEL_PATTERN}
    /// The name of a keyspace in the record and in reports: that of a Keyspace, or of a store with a single writer, behind
    /// which stands `.writer`, or of one that several units write, behind which stands `.shared`.
    keyspace {"minLength": 1, "maxLength": 70, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.(writer|shared))?$"}
    /// The name of any object: a DNS-1123 subdomain.
    object_name {"minLength": 1, "maxLength": 253, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}
    /// A key of a Secret's data.
    secret_key {"minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"}
    /// A kind.
    kind {"minLength": 1, "maxLength": 63, "pattern": "^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$"}
    /// A name that people read.
    display {"minLength": 1, "maxLength": 253}
    /// A duration such as 10s or 1m30s.
    duration {"minLength": 2, "maxLength": 16, "pattern": "^([0-9]+(ms|s|m|h))+$"}
    /// Numbers of slots and ranges of them, such as 0-511,600.
    slots {"minLength": 1, "maxLength": 65536, "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$"}
    /// A term and an epoch, such as 1.41.
    epoch {"maxLength": 32, "pattern": r"^[0-9]+\.[0-9]+$"}
    /// Host and port.
    address {"minLength": 3, "maxLength": 320, "pattern": r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?):[1-9][0-9]{0,4}$"}
    /// An https URL with host and port, and nothing after them.
    https_url {"maxLength": 320, "pattern": r"^https://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?):[1-9][0-9]{0,4}$"}
    /// An http URL with host and port, and nothing after them.
    http_url {"maxLength": 320, "pattern": r"^http://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?):[1-9][0-9]{0,4}$"}
    /// A URL.
    url {"minLength": 8, "maxLength": 1024, "pattern": r"^[!-~]+$"}
    /// The beginning of a path.
    path_prefix {"minLength": 1, "maxLength": 1024, "pattern": r"^/[^?#\s]*$"}
    /// A regular expression.
    regex {"minLength": 1, "maxLength": 1024}
    /// The name of a header.
    header {"minLength": 1, "maxLength": 128, "pattern": r"^[-A-Za-z0-9!#$%&'*+.^_`|~]+$"}
    /// The name of a database.
    database {"minLength": 1, "maxLength": 63}
    /// The name of a table, with or without a schema.
    table {"minLength": 1, "maxLength": 127}
    /// The path of a file.
    file {"minLength": 2, "maxLength": 255, "pattern": "^/[!-~]+$"}
    /// The name of a column.
    column {"minLength": 1, "maxLength": 63}
    /// A uid.
    uid {"minLength": 1, "maxLength": 64}
    /// One word for machines.
    word {"maxLength": 128}
    /// What happened and what to do.
    message {"maxLength": 32768}
    /// The name of a user.
    user {"minLength": 1, "maxLength": 256}
    /// Why a person decided.
    reason {"minLength": 1, "maxLength": 1024}
    /// The five fields of cron.
    cron {"minLength": 9, "maxLength": 256, "pattern": r"^[-0-9A-Za-z*/,#]+( +[-0-9A-Za-z*/,#]+){4}$"}
    /// A time zone of the IANA's database.
    time_zone {"minLength": 1, "maxLength": 64, "pattern": r"^[A-Za-z][-+_/0-9A-Za-z]*$"}
    /// A moment, RFC 3339 with fractions of a second.
    moment {"maxLength": 40}
    /// A moment that people write, RFC 3339.
    instant {"maxLength": 40, "format": "date-time"}
    /// A short text that the operator writes.
    short {"maxLength": 256}
    /// Names that the operator joined by commas.
    joined {"maxLength": 4352}
    /// A position in the log of an engine.
    position {"maxLength": 1024}
    /// A number that may be larger than what JSON keeps exactly.
    digits {"minLength": 1, "maxLength": 20, "pattern": "^[0-9]{1,20}$"}
    /// Spans of a whole keyspace.
    spans {"minLength": 1, "maxLength": 1_048_576}
}

macro_rules! integers {
    ($($(#[$doc:meta])* $name:ident $format:literal $min:literal ..= $max:literal)*) => {$(
        $(#[$doc])*
        pub fn $name(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "integer", "format": $format, "minimum": $min, "maximum": $max})
        }
    )*};
}

integers! {
    /// How many slots a keyspace has.
    slot_count "int32" 1 ..= 16384
    /// The number of a slot.
    slot "int32" 0 ..= 16383
    /// A number that only grows: an epoch.
    grows "int64" 0 ..= 9_007_199_254_740_991_i64
    /// A term; 0 before the first.
    term "int64" 0 ..= 4_294_967_295_i64
    /// How many rows a second.
    pace "int64" 100 ..= 9_007_199_254_740_991_i64
    /// How many of what has ended are kept.
    kept "int32" 1 ..= 100
    /// How many, as 32 bits.
    count "int32" 0 ..= 2_147_483_647
    /// How many, as 64 bits, and times in milliseconds.
    count_long "int64" 0 ..= 9_007_199_254_740_991_i64
}

/// A list of names, in order, at most 64.
pub fn labels(generator: &mut SchemaGenerator) -> Schema {
    let item = label(generator);
    json_schema!({"type": "array", "maxItems": 64, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Names of keyspaces in the record.
pub fn keyspaces(generator: &mut SchemaGenerator) -> Schema {
    let item = keyspace(generator);
    json_schema!({"type": "array", "maxItems": 64, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Uids of operations, as many as a table remembers.
pub fn uids(generator: &mut SchemaGenerator) -> Schema {
    let item = uid(generator);
    json_schema!({"type": "array", "maxItems": 256, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Names of stores, in order, at most 256.
pub fn store_names(generator: &mut SchemaGenerator) -> Schema {
    let item = label(generator);
    json_schema!({"type": "array", "maxItems": 256, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Names of ShardRanges, in order: as many as there may be slots.
pub fn range_names(generator: &mut SchemaGenerator) -> Schema {
    let item = object_name(generator);
    json_schema!({"type": "array", "maxItems": 16384, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Names, each once, at most 64 and at least one.
pub fn label_set(generator: &mut SchemaGenerator) -> Schema {
    let item = label(generator);
    json_schema!({"type": "array", "minItems": 1, "maxItems": 64, "items": item, "x-kubernetes-list-type": "set"})
}

/// Namespaces, each once.
pub fn namespaces(generator: &mut SchemaGenerator) -> Schema {
    let item = label(generator);
    json_schema!({"type": "array", "maxItems": 512, "items": item, "x-kubernetes-list-type": "set"})
}

/// Ordered, distinct failover units.
pub fn failover_units(generator: &mut SchemaGenerator) -> Schema {
    let item = label(generator);
    json_schema!({"type": "array", "maxItems": 16, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Keys of an override, each once.
pub fn keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "minItems": 1, "maxItems": 64, "x-kubernetes-list-type": "set",
        "items": {"type": "string", "minLength": 1, "maxLength": 256},
    })
}

/// Messages, at most 64.
pub fn messages(generator: &mut SchemaGenerator) -> Schema {
    let item = message(generator);
    json_schema!({"type": "array", "maxItems": 64, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// The values of a row's primary key, as text.
pub fn row_key(_: &mut SchemaGenerator) -> Schema {
    let item = json!({"type": "string", "maxLength": 8192});
    json_schema!({"type": "array", "maxItems": 32, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Kubernetes objects as they are.
pub fn manifests(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 64,
        "items": {
            "type": "object",
            "maxProperties": 64,
            "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
        },
        "x-kubernetes-list-type": "atomic",
    })
}

/// Any object.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": true})
}

/// A label selector; the API server's own type has no maxima.
pub fn selector(_: &mut SchemaGenerator) -> Schema {
    let value = json!({"type": "string", "maxLength": 63});
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that must be there with these values.",
                "type": "object", "maxProperties": 32, "additionalProperties": value,
            },
            "matchExpressions": {
                "description": "Requirements, all of which must hold.",
                "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"description": "The label.", "type": "string", "minLength": 1, "maxLength": 317},
                        "operator": {
                            "description": "How the label relates to the values.",
                            "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values; none for Exists and DoesNotExist.",
                            "type": "array", "maxItems": 64, "items": value, "x-kubernetes-list-type": "atomic",
                        },
                    },
                },
            },
        },
        "x-kubernetes-map-type": "atomic",
    })
}

/// A condition list, merged by type, so each manager owns its own conditions.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"description": "Which condition.", "type": "string", "minLength": 1, "maxLength": 316},
                "status": {"description": "Whether it holds.", "type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {
                    "description": "The generation that it speaks of.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When the status flipped last.", "type": "string", "format": "date-time",
                },
                "reason": {
                    "description": "One word for machines.", "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {"description": "What is true and what to do.", "type": "string", "maxLength": 32768},
            },
        },
    })
}

/// How a list of objects is bounded and merged: `map` by `keys`, or atomic where there is none.
fn list<T: JsonSchema>(generator: &mut SchemaGenerator, (min, max): (u32, u32), keys: &[&str]) -> Schema {
    let item = T::json_schema(generator);
    let mut schema = json_schema!({"type": "array", "maxItems": max, "items": item});
    if min > 0 {
        schema.insert("minItems".to_owned(), min.into());
    }
    let kind = if keys.is_empty() { "atomic" } else { "map" };
    schema.insert("x-kubernetes-list-type".to_owned(), kind.into());
    if !keys.is_empty() {
        schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
    }
    schema
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident $min:literal ..= $max:literal [$($key:literal),*])*) => {$(
        $(#[$doc])*
        pub fn $name<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
            list::<T>(generator, ($min, $max), &[$($key),*])
        }
    )*};
}

lists! {
    /// Up to 32 things with a name.
    named 0 ..= 32 ["name"]
    /// 1 to 64 things with a name.
    some_named 1 ..= 64 ["name"]
    /// Up to 256 things with a name.
    many_named 0 ..= 256 ["name"]
    /// Up to 256 things, one a store.
    by_store 0 ..= 256 ["store"]
    /// One thing a unit, up to 64.
    by_unit 0 ..= 64 ["unit"]
    /// 1 to 64 things, one a unit.
    some_by_unit 1 ..= 64 ["unit"]
    /// One thing a path prefix.
    by_prefix 0 ..= 64 ["pathPrefix"]
    /// A few things in order, at least one.
    some_ordered 1 ..= 8 []
    /// Up to 32 things in order.
    ordered 0 ..= 32 []
    /// Up to 64 things in order.
    ordered_64 0 ..= 64 []
    /// Up to 256 things in order.
    ordered_256 0 ..= 256 []
    /// Up to 1024 things in order.
    ordered_1024 0 ..= 1024 []
    /// Up to 2048 links.
    links 0 ..= 2048 ["store", "from"]
    /// One thing an operation.
    by_uid 0 ..= 256 ["uid"]
    /// One to four roles.
    roles 1 ..= 4 []
}
