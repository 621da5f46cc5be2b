//! Export and import of everything that can be declared, between any stores.

use std::path::Path;

use anyhow::{Context, Result, bail};
use weft_store::{Declared, Format, Imported};

use crate::config::Config;
use crate::storage;

/// The resources of the configured store as a declarative file's text.
///
/// # Errors
/// The store can't be opened or read.
pub async fn export(config: &Config, format: Format) -> Result<String> {
    let store = storage::open(config).await?;
    let declared = Declared::of_listing(&store.list("/").await?);
    if let [problem, ..] = declared.problems() {
        bail!("{problem}");
    }
    Ok(declared.render(format)?)
}

/// Brings the configured store to what a declarative file says; with
/// `replace` also by deleting what it doesn't say.
///
/// # Errors
/// The file is wrong anywhere, of which nothing is imported then; the store fails.
pub async fn import(config: &Config, path: &Path, replace: bool) -> Result<Imported> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {file}"))?;
    let variable = |name: &str| std::env::var(name).ok();
    let declared = Declared::parse(&text, Format::of(path), &variable);
    let declared = declared.with_context(|| file.to_string())?;
    if !declared.problems().is_empty() {
        bail!("{file}: {}", declared.problems().join("\n"));
    }
    let store = storage::open(config).await?;
    Ok(declared.import(&*store, replace).await?)
}
