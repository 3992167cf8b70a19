//! `rtpCapabilities` of a receiving client.

use mediasoup::types::rtp_parameters::{
    MediaKind, MimeTypeAudio, RtpCapabilities, RtpCodecCapability, RtpHeaderExtension,
    RtpHeaderExtensionDirection as Direction, RtpHeaderExtensionUri as Uri,
};

use super::{
    Invalid,
    codec::{Common, MAX_PAYLOAD_TYPE, Media, common, media},
    reader::Node,
};

/// Codecs in one object: a browser lists every video profile with its retransmission.
const MAX_CODECS: usize = 256;
/// Header extensions in one object.
const MAX_EXTENSIONS: usize = 256;

/// Reads a client's `rtpCapabilities`. What is not for audio, or unknown to mediasoup, can match
/// nothing here and is left out.
pub(super) fn read(root: &Node<'_>) -> Result<RtpCapabilities, Invalid> {
    let mut capabilities = RtpCapabilities::default();
    for item in root.objects("codecs", MAX_CODECS)? {
        capabilities.codecs.extend(codec(&item.node())?);
    }
    for item in root.objects("headerExtensions", MAX_EXTENSIONS)? {
        capabilities
            .header_extensions
            .extend(header_extension(&item.node())?);
    }
    Ok(capabilities)
}

/// Reads a codec. Its `kind` is the one in its `mimeType`, as in mediasoup.
fn codec(node: &Node<'_>) -> Result<Option<RtpCodecCapability>, Invalid> {
    let mime_type = match media(node)? {
        Media::Audio(MimeTypeAudio::Rtx) | Media::UnknownAudio | Media::Other => return Ok(None),
        Media::Audio(mime_type) => mime_type,
    };
    let preferred_payload_type = match node.get("preferredPayloadType") {
        Some(payload_type) => Some(payload_type.integer(0..=MAX_PAYLOAD_TYPE)?),
        None => None,
    };
    let Common {
        clock_rate,
        channels,
        parameters,
        rtcp_feedback,
    } = common(node, mime_type)?;
    Ok(Some(RtpCodecCapability::Audio {
        mime_type,
        preferred_payload_type,
        clock_rate,
        channels,
        parameters,
        rtcp_feedback,
    }))
}

/// Reads a header extension; without `kind` it is for audio too.
fn header_extension(node: &Node<'_>) -> Result<Option<RtpHeaderExtension>, Invalid> {
    if let Some(kind) = node.get("kind")
        && !matches!(kind.text()?, "" | "audio")
    {
        return Ok(None);
    }
    let Ok(uri) = node.require("uri")?.text()?.parse::<Uri>() else {
        return Ok(None);
    };
    let preferred_encrypt = match node.get("preferredEncrypt") {
        Some(encrypt) => encrypt.flag()?,
        None => false,
    };
    // mediasoup ignores a client's direction.
    Ok(Some(RtpHeaderExtension {
        kind: MediaKind::Audio,
        uri,
        preferred_id: node
            .require("preferredId")?
            .integer(1..=u16::from(u8::MAX))?,
        preferred_encrypt,
        direction: Direction::SendRecv,
    }))
}
