//! The settings' file, followed.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use weft_inject::Settings;

/// How often the file is looked at; kubelets take about a minute to bring a change.
const POLL: Duration = Duration::from_secs(5);

/// The settings of a file (the defaults without one), and the work of following it: a file that
/// can't be used leaves the last good settings in force, and says why in the log.
///
/// # Errors
/// The file can't be used at the start.
pub fn follow(
    path: Option<PathBuf>,
) -> Result<(watch::Receiver<Arc<Settings>>, impl Future<Output = ()> + Send + 'static)> {
    let text = path.as_deref().map(read).transpose()?.unwrap_or_default();
    let (sender, receiver) = watch::channel(Arc::new(parse(path.as_deref(), &text)?));
    let work = async move {
        let Some(path) = path else { return };
        let mut known = text;
        loop {
            tokio::time::sleep(POLL).await;
            let new = match read(&path) {
                Ok(new) if new != known => new,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!("{error:#}; the settings stay what they are");
                    continue;
                }
            };
            match parse(Some(&path), &new) {
                Ok(settings) => {
                    tracing::info!(file = %path.display(), "new settings");
                    sender.send_replace(Arc::new(settings));
                }
                Err(error) => tracing::error!("{error:#}; the settings stay what they are"),
            }
            known = new;
        }
    };
    Ok((receiver, work))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

fn parse(path: Option<&Path>, text: &str) -> Result<Settings> {
    let place =
        || path.map_or_else(|| "the settings".to_owned(), |path| path.display().to_string());
    Settings::parse(text).with_context(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        std::fs::write(&path, "revision: one").unwrap();
        let (mut settings, work) = follow(Some(path.clone())).unwrap();
        let work = tokio::spawn(work);
        assert_eq!(settings.borrow_and_update().revision, "one");
        std::fs::write(&path, "revision: [").unwrap();
        tokio::time::advance(POLL * 3).await;
        std::fs::write(&path, "revision: two").unwrap();
        settings.changed().await.unwrap();
        assert_eq!(settings.borrow().revision, "two");
        work.abort();
        std::fs::write(&path, "revision: [").unwrap();
        let error = follow(Some(path)).map(drop).unwrap_err();
        assert!(format!("{error:#}").contains("settings.yaml"), "{error:#}");
    }
}
