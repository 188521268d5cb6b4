//! What the demo prints.

use crate::region::Region;
use comfy_table::{ContentArrangement, Table};

/// A heading.
pub fn title(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.chars().count()));
}

/// A command that was run.
pub fn said(command: &str) {
    println!("  $ {command}");
}

/// Something that became true.
pub fn done(text: &str) {
    println!("  ✓ {text}");
}

/// Lines of another program.
pub fn lines(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// A table with these columns.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for line in table.to_string().lines() {
        println!("  {line}");
    }
}

/// What runs in each region.
pub fn regions(regions: &[Region]) {
    let row = |(index, region): (usize, &Region)| {
        let role = if index == 0 { "hub and member" } else { "member" };
        let database = format!("{}:{}", region.address, region.database_port);
        [
            region.name.clone(),
            role.to_owned(),
            region.unit(),
            region.router(),
            database,
        ]
    };
    table(
        ["region", "cluster", "unit", "router", "PostgreSQL"],
        regions.iter().enumerate().map(row),
    );
}
