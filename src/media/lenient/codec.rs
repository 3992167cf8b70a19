//! What codecs have in common in parameters and in capabilities.

use std::{
    num::{NonZeroU8, NonZeroU32},
    str::FromStr,
};

use mediasoup::types::rtp_parameters::{
    MimeTypeAudio, RtcpFeedback, RtpCodecParametersParameters as Parameters,
    RtpCodecParametersParametersValue as ParameterValue,
};
use serde_json::Value;

use super::{
    Invalid,
    reader::{Node, is_visible, whole},
};

/// The highest RTP payload type.
pub(super) const MAX_PAYLOAD_TYPE: u8 = 127;
/// Feedback entries read per codec; there are five that mean something.
const MAX_FEEDBACK: usize = 32;
/// Parameters of a codec. They travel on to every listener.
const MAX_PARAMETERS: usize = 16;
/// Characters of a parameter's name.
const MAX_PARAMETER_NAME: usize = 32;
/// Characters of a parameter's value.
const MAX_PARAMETER_TEXT: usize = 128;
/// Opus's number of channels.
const STEREO: NonZeroU8 = NonZeroU8::MIN.saturating_add(1);

/// What a codec's `mimeType` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// An audio codec that mediasoup knows.
    Audio(MimeTypeAudio),
    /// An audio codec that mediasoup does not know.
    UnknownAudio,
    /// Video, or whatever else is not audio.
    Other,
}

/// Reads `mimeType`, whose case does not matter.
pub(super) fn media(codec: &Node<'_>) -> Result<Media, Invalid> {
    let field = codec.require("mimeType")?;
    let (kind, name) = field
        .text()?
        .split_once('/')
        .filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
        .ok_or_else(|| field.invalid("must be like audio/opus"))?;
    if !kind.eq_ignore_ascii_case("audio") {
        return Ok(Media::Other);
    }
    Ok(MimeTypeAudio::from_str(&format!("audio/{name}")).map_or(Media::UnknownAudio, Media::Audio))
}

/// The fields of an audio codec that parameters and capabilities share.
pub(super) struct Common {
    pub(super) clock_rate: NonZeroU32,
    pub(super) channels: NonZeroU8,
    pub(super) parameters: Parameters,
    pub(super) rtcp_feedback: Vec<RtcpFeedback>,
}

/// Reads them.
pub(super) fn common(codec: &Node<'_>, mime_type: MimeTypeAudio) -> Result<Common, Invalid> {
    let clock_rate = codec.require("clockRate")?.positive(NonZeroU32::MAX)?;
    let channels = match codec.get("channels") {
        Some(channels) => channels.positive(NonZeroU8::MAX)?,
        // Opus is always announced with two channels (RFC 7587, section 7), so a client that
        // leaves them out can mean nothing else; mediasoup's default is one.
        None if mime_type == MimeTypeAudio::Opus => STEREO,
        None => NonZeroU8::MIN,
    };
    Ok(Common {
        clock_rate,
        channels,
        parameters: parameters(codec)?,
        rtcp_feedback: rtcp_feedback(codec)?,
    })
}

/// Reads `rtcpFeedback` without repetitions and what mediasoup does not know.
fn rtcp_feedback(codec: &Node<'_>) -> Result<Vec<RtcpFeedback>, Invalid> {
    let mut known = Vec::new();
    for item in codec.objects("rtcpFeedback", MAX_FEEDBACK)? {
        let entry = item.node();
        let kind = entry.require("type")?.text()?;
        let parameter = match entry.get("parameter") {
            Some(parameter) => parameter.text()?,
            None => "",
        };
        let feedback =
            RtcpFeedback::from_type_parameter(kind, parameter).unwrap_or(RtcpFeedback::Unsupported);
        if feedback != RtcpFeedback::Unsupported && !known.contains(&feedback) {
            known.push(feedback);
        }
    }
    Ok(known)
}

/// Reads `parameters`: they reach the session description of every listener, so a line break in
/// one of them would be a line of the sender's choice in somebody else's browser.
fn parameters(codec: &Node<'_>) -> Result<Parameters, Invalid> {
    let mut parameters = Parameters::default();
    let Some(field) = codec.get("parameters") else {
        return Ok(parameters);
    };
    let field = field.object()?;
    for (name, value) in field.fields(MAX_PARAMETERS)? {
        if name.is_empty() {
            continue;
        }
        if name.len() > MAX_PARAMETER_NAME || !is_visible(name, false) || name.contains([';', '='])
        {
            let problem = format!(
                "names have at most {MAX_PARAMETER_NAME} visible ASCII characters without ';' and '='"
            );
            return Err(field.invalid(problem));
        }
        parameters.insert(name.to_owned(), parameter(name, &value)?);
    }
    Ok(parameters)
}

/// Reads one parameter: text or a number for mediasoup, which has no word for the other kinds.
fn parameter(name: &str, field: &Node<'_>) -> Result<ParameterValue, Invalid> {
    let value = match field.value() {
        Value::Bool(flag) => ParameterValue::Number(u32::from(*flag)),
        Value::String(_) => {
            ParameterValue::from(field.visible(MAX_PARAMETER_TEXT, true)?.unwrap_or_default())
        }
        number @ Value::Number(text) => whole(number)
            .and_then(|number| u32::try_from(number).ok())
            // The crate hands it on as a signed number of 32 bits.
            .filter(|number| i32::try_from(*number).is_ok())
            .map_or_else(
                || ParameterValue::from(text.to_string()),
                ParameterValue::Number,
            ),
        _ => return Err(field.invalid("must be a string or a number")),
    };
    match (name, &value) {
        ("apt", ParameterValue::String(_)) => Err(field.invalid("must be a payload type")),
        _ => Ok(value),
    }
}
