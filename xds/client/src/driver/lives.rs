//! Resources that live for a time only (`ttl`).

use std::{collections::BTreeMap, future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};
use weft_xds_ads::ResourceType;

/// When resources end, of those that do.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<(ResourceType, String), Instant>);

impl Lives {
    /// A resource lives so long from now; `None`: until it is removed.
    pub(super) fn note(&mut self, kind: ResourceType, name: String, life: Option<Duration>) {
        match life {
            Some(life) => {
                self.0.insert((kind, name), Instant::now() + life);
            }
            None => self.forget(kind, name),
        }
    }

    /// A resource is gone.
    pub(super) fn forget(&mut self, kind: ResourceType, name: String) {
        if !self.0.is_empty() {
            self.0.remove(&(kind, name));
        }
    }

    /// Waits for the next end.
    pub(super) async fn due(&self) {
        match self.0.values().min() {
            Some(end) => sleep_until(*end).await,
            None => pending().await,
        }
    }

    /// What has ended by now, by type.
    pub(super) fn take_ended(&mut self) -> BTreeMap<ResourceType, Vec<String>> {
        let now = Instant::now();
        let mut ended: BTreeMap<_, Vec<_>> = BTreeMap::new();
        self.0.retain(|(kind, name), end| {
            let lives = *end > now;
            if !lives {
                ended.entry(*kind).or_default().push(name.clone());
            }
            lives
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CDS: ResourceType = ResourceType::Cluster;

    #[tokio::test(start_paused = true)]
    async fn resources_end_when_nothing_prolongs_them() {
        let mut lives = Lives::default();
        let second = Duration::from_secs(1);
        for name in ["short", "kept", "endless", "gone"] {
            lives.note(CDS, name.to_owned(), Some(second));
        }
        lives.note(CDS, "kept".to_owned(), Some(second * 3));
        lives.note(CDS, "endless".to_owned(), None);
        lives.forget(CDS, "gone".to_owned());
        let begun = Instant::now();
        lives.due().await;
        assert!(begun.elapsed() >= second);
        assert_eq!(lives.take_ended(), BTreeMap::from([(CDS, vec!["short".to_owned()])]));
        lives.due().await;
        assert!(begun.elapsed() >= second * 3);
        assert_eq!(lives.take_ended(), BTreeMap::from([(CDS, vec!["kept".to_owned()])]));
        assert!(lives.0.is_empty());
    }
}
