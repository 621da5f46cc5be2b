//! Error codes of HTTP/2 (RFC 9113, 7).

use std::fmt;

/// Why a stream was reset or a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(u32);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// Nothing is wrong.
    NO_ERROR = 0x0;
    /// The peer broke the protocol in a way that has no code of its own.
    PROTOCOL_ERROR = 0x1;
    /// Whoever sends it has failed.
    INTERNAL_ERROR = 0x2;
    /// More was sent than the window allowed.
    FLOW_CONTROL_ERROR = 0x3;
    /// Settings were not acknowledged.
    SETTINGS_TIMEOUT = 0x4;
    /// A frame came for a stream that had ended.
    STREAM_CLOSED = 0x5;
    /// A frame has the wrong size.
    FRAME_SIZE_ERROR = 0x6;
    /// The request was not looked at.
    REFUSED_STREAM = 0x7;
    /// The stream is not needed any more.
    CANCEL = 0x8;
    /// Header compression can't go on.
    COMPRESSION_ERROR = 0x9;
    /// The connection of a CONNECT request failed.
    CONNECT_ERROR = 0xa;
    /// The peer makes too much work.
    ENHANCE_YOUR_CALM = 0xb;
    /// TLS is not good enough.
    INADEQUATE_SECURITY = 0xc;
    /// HTTP/1.1 has to be used.
    HTTP_1_1_REQUIRED = 0xd;
}

impl Reason {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        self.0
    }
}

impl From<u32> for Reason {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Reason({:#x})", self.0),
        }
    }
}
