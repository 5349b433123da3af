//! Bodies of pushes: encoded once, held small, sent as the gateway takes them.
//!
//! What is larger than a few packets is compressed while it is encoded, so that the text of a million series is never in memory as a
//! whole. A gateway that takes no gzip gets the same text, unpacked piece by piece while it is sent.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pe_scrape::exposition::{Block, Format, encode_to};

use crate::http::{Body, Content};

/// Bodies up to this size are not compressed: they fit one packet.
const SMALL: usize = 1200;
/// Bodies up to this size are held as they are where they are not to be compressed.
const HELD: usize = 1 << 20;
/// Bytes that are unpacked at one time.
const PIECE: usize = 64 << 10;

/// An encoded body.
pub(super) struct Encoded {
    content: Held,
    content_type: &'static str,
}

enum Held {
    Plain(Bytes),
    Gzipped { packed: Bytes, length: u64 },
}

impl Encoded {
    /// Encodes blocks. Text is what every gateway and every look-alike reads; native histograms exist only in protobuf.
    pub(super) fn new(blocks: &[Block<'_>], is_compressed: bool) -> Self {
        let native = blocks.iter().any(Block::has_native_histograms);
        let format = match native {
            true => Format::Protobuf,
            false => Format::Text,
        };
        let mut packer = Packer::new(if is_compressed { SMALL } else { HELD });
        encode_to(blocks, format, &mut packer).expect("memory takes everything");
        Self {
            content: packer.finish(),
            content_type: format.content_type(),
        }
    }

    /// The body compressed, if it is large enough.
    pub(super) fn gzipped(&self) -> Option<Body> {
        match &self.content {
            Held::Plain(_) => None,
            Held::Gzipped { packed, .. } => Some(Body {
                content: Content::Whole(packed.clone()),
                content_type: self.content_type,
                content_encoding: Some("gzip"),
            }),
        }
    }

    /// The body as it is.
    pub(super) fn plain(&self) -> Body {
        match &self.content {
            Held::Plain(bytes) => Body::new(bytes.clone(), self.content_type),
            Held::Gzipped { packed, length } => {
                let packed = packed.clone();
                let make = move || StreamBody::new(unpacked(packed.clone())).boxed_unsync();
                Body {
                    content: Content::Streamed {
                        make: Arc::new(make),
                        length: *length,
                    },
                    content_type: self.content_type,
                    content_encoding: None,
                }
            }
        }
    }
}

/// The pieces of a packed body.
fn unpacked(
    packed: Bytes,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>>
{
    let mut decoder = GzDecoder::new(io::Cursor::new(packed));
    let pieces = std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE);
        let read = decoder.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        match read {
            Ok(0) => None,
            Ok(_) => Some(Ok(Frame::data(piece.into()))),
            Err(error) => Some(Err(error.into())),
        }
    });
    futures_util::stream::iter(pieces)
}

/// Takes bytes as they are up to a limit, and packs them all beyond.
struct Packer {
    plain: Vec<u8>,
    limit: usize,
    gzip: Option<GzEncoder<Vec<u8>>>,
    length: u64,
}

impl Packer {
    fn new(limit: usize) -> Self {
        Self {
            plain: Vec::new(),
            limit,
            gzip: None,
            length: 0,
        }
    }

    fn finish(self) -> Held {
        match self.gzip {
            None => Held::Plain(self.plain.into()),
            Some(gzip) => Held::Gzipped {
                packed: gzip.finish().expect("memory takes everything").into(),
                length: self.length,
            },
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        if let Some(gzip) = &mut self.gzip {
            gzip.write_all(bytes)?;
        } else if self.plain.len() + bytes.len() <= self.limit {
            self.plain.extend_from_slice(bytes);
        } else {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&std::mem::take(&mut self.plain))?;
            gzip.write_all(bytes)?;
            self.gzip = Some(gzip);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
