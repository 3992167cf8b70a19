//! `rtpParameters` of a producer.

use mediasoup::types::rtp_parameters::{
    MimeTypeAudio, RtcpParameters, RtpCodecParameters, RtpEncodingParameters,
    RtpHeaderExtensionParameters, RtpHeaderExtensionUri as Uri, RtpParameters,
};

use super::{
    Invalid,
    codec::{Common, MAX_PAYLOAD_TYPE, Media, common, media},
    reader::Node,
};

/// Codecs in one object.
const MAX_CODECS: usize = 32;
/// Header extensions in one object.
const MAX_EXTENSIONS: usize = 64;
/// Characters of `mid` and `rid`: far more than a packet's header extension carries in practice,
/// and short enough for every text that the worker builds from them.
const MAX_ID: usize = 64;
/// Characters of `cname`: its length is one byte in RTCP.
const MAX_CNAME: usize = 255;
/// Characters of `msid`: two identifiers of 64 (RFC 8830) and a space.
const MAX_MSID: usize = 129;

/// Reads a producer's `rtpParameters`, called that in errors.
pub(super) fn read(root: &Node<'_>) -> Result<RtpParameters, Invalid> {
    let codecs = codecs(root)?;
    let mut encoding = encoding(root, &codecs)?;
    let mut mid = match root.get("mid") {
        Some(mid) => mid.visible(MAX_ID, false)?,
        None => None,
    };
    let by_ssrc = encoding.ssrc.is_some();
    if by_ssrc {
        // The worker then matches packets by it alone. A `mid` would only collide with the one of
        // the producer that this one replaces: browsers use a closed section's again.
        mid = None;
        encoding.rid = None;
    } else if mid.is_none() && encoding.rid.is_none() {
        let problem = "needs an ssrc or a rid, or rtpParameters a mid, to know the packets by";
        return Err(root.invalid_field("encodings", problem));
    }
    Ok(RtpParameters {
        mid,
        header_extensions: header_extensions(root, by_ssrc)?,
        encodings: vec![encoding],
        rtcp: rtcp(root)?,
        msid: match root.get("msid") {
            Some(msid) => msid.visible(MAX_MSID, true)?,
            None => None,
        },
        codecs,
    })
}

/// Reads `codecs`: at least one that carries sound, no payload type and no codec twice.
fn codecs(root: &Node<'_>) -> Result<Vec<RtpCodecParameters>, Invalid> {
    let mut codecs: Vec<RtpCodecParameters> = Vec::new();
    for item in root.objects("codecs", MAX_CODECS)? {
        let node = item.node();
        let refuse = |problem| Err(node.invalid_field("mimeType", problem));
        let mime_type = match media(&node)? {
            Media::Audio(MimeTypeAudio::Rtx | MimeTypeAudio::Red) => {
                return refuse("mediasoup has no retransmission or redundancy for audio");
            }
            Media::Audio(mime_type) => mime_type,
            Media::UnknownAudio => return refuse("is not a codec that mediasoup knows"),
            Media::Other => return refuse("is not an audio codec"),
        };
        let field = node.require("payloadType")?;
        let payload_type = field.integer(0..=MAX_PAYLOAD_TYPE)?;
        if codecs
            .iter()
            .any(|other| other.payload_type() == payload_type)
        {
            return Err(field.invalid("is used twice"));
        }
        let Common {
            clock_rate,
            channels,
            parameters,
            rtcp_feedback,
        } = common(&node, mime_type)?;
        let codec = RtpCodecParameters::Audio {
            mime_type,
            payload_type,
            clock_rate,
            channels,
            parameters,
            rtcp_feedback,
        };
        // Both would become the same codec of the router, and no consumer could be made.
        if codecs.iter().any(|other| shape(other) == shape(&codec)) {
            return Err(node.invalid("is there twice"));
        }
        codecs.push(codec);
    }
    if codecs.iter().any(is_media) {
        Ok(codecs)
    } else {
        Err(root.invalid_field("codecs", "needs an audio codec"))
    }
}

/// What the router tells codecs apart by.
fn shape(codec: &RtpCodecParameters) -> impl PartialEq {
    let channels = match codec {
        RtpCodecParameters::Audio { channels, .. } => Some(*channels),
        RtpCodecParameters::Video { .. } => None,
    };
    (codec.mime_type().as_str(), codec.clock_rate(), channels)
}

/// Whether the codec carries sound, not comfort noise or dialled digits beside it.
fn is_media(codec: &RtpCodecParameters) -> bool {
    !matches!(
        codec,
        RtpCodecParameters::Audio {
            mime_type: MimeTypeAudio::Cn | MimeTypeAudio::TelephoneEvent,
            ..
        }
    )
}

/// Reads `encodings`: audio has one, all of whose fields are optional.
fn encoding(
    root: &Node<'_>,
    codecs: &[RtpCodecParameters],
) -> Result<RtpEncodingParameters, Invalid> {
    let encodings = root.objects("encodings", MAX_CODECS)?;
    if let Some(second) = encodings.get(1) {
        return Err(second.node().invalid("audio has a single encoding"));
    }
    let Some(item) = encodings.first() else {
        return Ok(RtpEncodingParameters::default());
    };
    let node = item.node();
    // `rtx` is left out: there is no retransmission codec for audio.
    let mut encoding = RtpEncodingParameters::default();
    if let Some(ssrc) = node.get("ssrc") {
        encoding.ssrc = Some(ssrc.integer(1..=u32::MAX)?);
    }
    if let Some(rid) = node.get("rid") {
        encoding.rid = rid.visible(MAX_ID, false)?;
    }
    if let Some(field) = node.get("codecPayloadType") {
        let payload_type = field.integer(0..=MAX_PAYLOAD_TYPE)?;
        if !codecs
            .iter()
            .any(|codec| is_media(codec) && codec.payload_type() == payload_type)
        {
            return Err(field.invalid("is not the payload type of an audio codec"));
        }
        encoding.codec_payload_type = Some(payload_type);
    }
    if let Some(dtx) = node.get("dtx") {
        encoding.dtx = Some(dtx.flag()?);
    }
    if let Some(mode) = node.get("scalabilityMode") {
        // The worker matches it with a recursive regular expression: ten thousand characters
        // overflow its stack, so nothing but the plain modes goes there, and those mean none.
        if !matches!(mode.text()?, "" | "S1T1" | "L1T1") {
            return Err(mode.invalid("audio has a single layer"));
        }
    }
    if let Some(field) = node.get("maxBitrate") {
        let bits = field.value().as_f64().filter(|bits| *bits >= 0.0);
        let bits = bits.ok_or_else(|| field.invalid("must be a number of bits per second"))?;
        encoding.max_bitrate = Some(u64::from(bits as u32)).filter(|bits| *bits > 0);
    }
    Ok(encoding)
}

/// Reads `headerExtensions`: those that mediasoup uses on audio, each once.
fn header_extensions(
    root: &Node<'_>,
    by_ssrc: bool,
) -> Result<Vec<RtpHeaderExtensionParameters>, Invalid> {
    let mut extensions: Vec<RtpHeaderExtensionParameters> = Vec::new();
    for item in root.objects("headerExtensions", MAX_EXTENSIONS)? {
        let node = item.node();
        let uri = match node.require("uri")?.text()?.parse::<Uri>() {
            Ok(uri) if is_useful(uri, by_ssrc) => uri,
            _ => continue,
        };
        let field = node.require("id")?;
        let id = field.integer(1..=u16::from(u8::MAX))?;
        let encrypt = match node.get("encrypt") {
            Some(encrypt) => encrypt.flag()?,
            None => false,
        };
        if extensions.iter().any(|other| other.uri == uri) {
            continue;
        }
        if extensions.iter().any(|other| other.id == id) {
            return Err(field.invalid("is used twice"));
        }
        extensions.push(RtpHeaderExtensionParameters { uri, id, encrypt });
    }
    Ok(extensions)
}

/// Whether the worker has a use for the extension in packets of an audio producer.
fn is_useful(uri: Uri, by_ssrc: bool) -> bool {
    match uri {
        // With an SSRC they match nothing, and what they carry reaches trace events unchecked:
        // see `trace_is_safe`.
        Uri::Mid | Uri::RtpStreamId => !by_ssrc,
        Uri::TransportWideCcDraft01
        | Uri::SsrcAudioLevel
        | Uri::AbsCaptureTime
        | Uri::PlayoutDelay => true,
        Uri::RepairRtpStreamId
        | Uri::AbsSendTime
        | Uri::DependencyDescriptor
        | Uri::VideoOrientation
        | Uri::MediasoupPacketId => false,
    }
}

/// Reads `rtcp`.
fn rtcp(root: &Node<'_>) -> Result<RtcpParameters, Invalid> {
    let mut rtcp = RtcpParameters::default();
    if let Some(field) = root.get("rtcp") {
        let field = field.object()?;
        if let Some(cname) = field.get("cname") {
            rtcp.cname = cname.visible(MAX_CNAME, true)?;
        }
        if let Some(reduced_size) = field.get("reducedSize") {
            rtcp.reduced_size = reduced_size.flag()?;
        }
    }
    Ok(rtcp)
}
