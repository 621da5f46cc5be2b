//! Compressor and decompressor libraries (`envoy.extensions.compression.*`).

use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::core::v3::{RuntimeFeatureFlag, TypedExtensionConfig};
use weft_xds_proto::pb::envoy::extensions::compression::brotli::compressor::v3::Brotli;
use weft_xds_proto::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use weft_xds_proto::pb::envoy::extensions::compression::gzip::decompressor::v3::Gzip as Gunzip;

use super::Coding;
use crate::config::{FieldError, Within, decode};

const GZIP: &str = "envoy.extensions.compression.gzip.compressor.v3.Gzip";
const BROTLI: &str = "envoy.extensions.compression.brotli.compressor.v3.Brotli";
const GUNZIP: &str = "envoy.extensions.compression.gzip.decompressor.v3.Gzip";
const UNBROTLI: &str = "envoy.extensions.compression.brotli.decompressor.v3.Brotli";

/// Level of gzip, quality and window of brotli when they are not set.
const LEVEL: u32 = 6;
const QUALITY: u32 = 3;
const WINDOW: u32 = 18;
/// `max_inflate_ratio` when it is not set.
const RATIO: u64 = 100;

/// `compressor_library`
pub(crate) fn compressor(config: Option<&TypedExtensionConfig>) -> Result<Coding, FieldError> {
    let config = config.ok_or_else(|| FieldError::missing("compressor_library"))?;
    let any = config.typed_config.as_ref();
    let any = any.ok_or_else(|| FieldError::missing("compressor_library.typed_config"))?;
    match type_name(&any.type_url) {
        GZIP => {
            let gzip: Gzip = decode(any).within("compressor_library.typed_config")?;
            let level = u32::try_from(gzip.compression_level).unwrap_or(0).min(9);
            Ok(Coding::Gzip(if level == 0 { LEVEL } else { level }))
        }
        BROTLI => {
            let brotli: Brotli = decode(any).within("compressor_library.typed_config")?;
            let quality = brotli.quality.map_or(QUALITY, |quality| quality.value).min(11);
            let window = brotli.window_bits.map_or(WINDOW, |bits| bits.value).clamp(10, 24);
            Ok(Coding::Brotli(quality, window))
        }
        other => Err(unknown("compressor_library", other)),
    }
}

/// `decompressor_library`, and how many times longer what comes out may be.
pub(crate) fn decompressor(
    config: Option<&TypedExtensionConfig>,
) -> Result<(Coding, u64), FieldError> {
    let config = config.ok_or_else(|| FieldError::missing("decompressor_library"))?;
    let any = config.typed_config.as_ref();
    let any = any.ok_or_else(|| FieldError::missing("decompressor_library.typed_config"))?;
    match type_name(&any.type_url) {
        GUNZIP => {
            let gzip: Gunzip = decode(any).within("decompressor_library.typed_config")?;
            let ratio = gzip.max_inflate_ratio.map_or(RATIO, |ratio| ratio.value.into());
            Ok((Coding::Gzip(LEVEL), ratio))
        }
        UNBROTLI => Ok((Coding::Brotli(QUALITY, WINDOW), RATIO)),
        other => Err(unknown("decompressor_library", other)),
    }
}

fn unknown(field: &str, message: &str) -> FieldError {
    FieldError::at(
        field,
        format!("{message:?} is not gzip or brotli, others are not supported yet"),
    )
}

/// A switch of Envoy's runtime: its default value, on where there is none.
pub(crate) fn is_on(flag: Option<&RuntimeFeatureFlag>) -> bool {
    flag.and_then(|flag| flag.default_value).is_none_or(|flag| flag.value)
}
