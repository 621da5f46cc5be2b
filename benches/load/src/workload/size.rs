//! The size of the program.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Conditions, Workload};
use crate::metric::{Metric, Sample};
use crate::peers::{Proxy, ProxyKind};

/// The stripped program.
pub(super) struct Binary;

impl Workload for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn title(&self) -> &'static str {
        "the stripped program"
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        proxy == ProxyKind::Weft
    }

    fn rounds(&self, _asked: usize) -> usize {
        1
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let stripped = conditions.folder.join("stripped");
        let status = Command::new("strip")
            .arg("-o")
            .arg(&stripped)
            .arg(proxy.program())
            .status()
            .context("strip (package binutils)")?;
        ensure!(status.success(), "strip: {status}");
        let bytes = std::fs::metadata(&stripped)?.len();
        Ok(Sample::default().with(Metric::Size, bytes as f64 / f64::from(1 << 20)))
    }
}
