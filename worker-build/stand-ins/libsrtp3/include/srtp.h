// libsrtp 3's session interface, as far as the media worker uses it, over libsrtp 2.
//
// Version 3 has an opaque policy that is filled in by calls, and protects from an input
// buffer into an output buffer of a stated capacity. Version 2 has a plain struct, and
// works in place on a buffer that it trusts to be long enough. C++ tells the calls of
// the two apart by their arguments; only the name of the policy type is in the way.
#pragma once

#define srtp_policy_t srtp2_policy_t
#include "../subprojects/libsrtp2/include/srtp.h"
#undef srtp_policy_t

#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <strings.h>

// Statuses that are new in version 3; both fit the range of version 2's enumeration.
constexpr auto srtp_err_status_buffer_small = static_cast<srtp_err_status_t>(28);
constexpr auto srtp_err_status_cryptex_err  = static_cast<srtp_err_status_t>(29);

struct srtp3_policy
{
	srtp2_policy_t settings{};
	std::uint8_t key[SRTP_MAX_KEY_LEN]{};
	std::size_t keyLength{ 0 };
};

using srtp_policy_t = srtp3_policy*;

inline srtp_err_status_t srtp_policy_create(srtp_policy_t* policy)
{
	*policy = new (std::nothrow) srtp3_policy();

	return *policy != nullptr ? srtp_err_status_ok : srtp_err_status_alloc_fail;
}

inline void srtp_policy_destroy(srtp_policy_t policy)
{
	if (policy != nullptr)
	{
		explicit_bzero(policy->key, sizeof(policy->key));
		delete policy;
	}
}

inline srtp_err_status_t srtp_policy_set_ssrc(srtp_policy_t policy, srtp_ssrc_t ssrc)
{
	policy->settings.ssrc = ssrc;

	return srtp_err_status_ok;
}

inline srtp_err_status_t srtp_policy_set_profile(srtp_policy_t policy, srtp_profile_t profile)
{
	const auto status = srtp_crypto_policy_set_from_profile_for_rtp(&policy->settings.rtp, profile);

	if (status != srtp_err_status_ok)
	{
		return status;
	}

	return srtp_crypto_policy_set_from_profile_for_rtcp(&policy->settings.rtcp, profile);
}

// Version 2 takes the master key and its salt as one string of bytes. Key identifiers
// (MKI), which WebRTC does not have, are refused.
inline srtp_err_status_t srtp_policy_add_key(
  srtp_policy_t policy,
  const std::uint8_t* key,
  std::size_t keyLength,
  const std::uint8_t* salt,
  std::size_t saltLength,
  const std::uint8_t* mki,
  std::size_t mkiLength)
{
	if (
	  mki != nullptr || mkiLength != 0 || policy->keyLength != 0 || keyLength > sizeof(policy->key) ||
	  saltLength > sizeof(policy->key) - keyLength)
	{
		return srtp_err_status_bad_param;
	}

	std::memcpy(policy->key, key, keyLength);
	std::memcpy(policy->key + keyLength, salt, saltLength);

	policy->keyLength    = keyLength + saltLength;
	policy->settings.key = policy->key;

	return srtp_err_status_ok;
}

inline srtp_err_status_t srtp_policy_set_allow_repeat_tx(srtp_policy_t policy, bool allow)
{
	policy->settings.allow_repeat_tx = allow ? 1 : 0;

	return srtp_err_status_ok;
}

// The range is checked by srtp_create().
inline srtp_err_status_t srtp_policy_set_window_size(srtp_policy_t policy, std::size_t packets)
{
	policy->settings.window_size = packets;

	return srtp_err_status_ok;
}

inline srtp_err_status_t srtp_create(srtp_t* session, srtp_policy_t policy)
{
	// Version 2 reads as many bytes of the key as the profile asks for, unchecked.
	if (
	  policy->keyLength == 0 ||
	  policy->keyLength != static_cast<std::size_t>(policy->settings.rtp.cipher_key_len))
	{
		return srtp_err_status_bad_param;
	}

	return srtp_create(session, static_cast<const srtp2_policy_t*>(&policy->settings));
}

namespace srtp3
{
	using InPlace = srtp_err_status_t (*)(srtp_t, void*, int*);

	// Runs one of version 2's calls on a copy of the packet in the output buffer, which
	// may be the input buffer or overlap it. `growth` is what the call may append.
	// On failure the content of the output is undefined and its length is left alone.
	inline srtp_err_status_t transform(
	  InPlace call,
	  srtp_t session,
	  const std::uint8_t* input,
	  std::size_t inputLength,
	  std::uint8_t* output,
	  std::size_t* outputLength,
	  std::size_t growth)
	{
		if (inputLength > static_cast<std::size_t>(INT_MAX) - growth)
		{
			return srtp_err_status_bad_param;
		}

		if (*outputLength < inputLength + growth)
		{
			return srtp_err_status_buffer_small;
		}

		if (output != input)
		{
			std::memmove(output, input, inputLength);
		}

		auto length       = static_cast<int>(inputLength);
		const auto status = call(session, output, &length);

		if (status == srtp_err_status_ok)
		{
			*outputLength = static_cast<std::size_t>(length);
		}

		return status;
	}
} // namespace srtp3

inline srtp_err_status_t srtp_protect(
  srtp_t session,
  const std::uint8_t* rtp,
  std::size_t rtpLength,
  std::uint8_t* srtp,
  std::size_t* srtpLength,
  std::size_t /*mkiIndex*/)
{
	return srtp3::transform(
	  srtp_protect, session, rtp, rtpLength, srtp, srtpLength, SRTP_MAX_TRAILER_LEN);
}

inline srtp_err_status_t srtp_unprotect(
  srtp_t session,
  const std::uint8_t* srtp,
  std::size_t srtpLength,
  std::uint8_t* rtp,
  std::size_t* rtpLength)
{
	return srtp3::transform(srtp_unprotect, session, srtp, srtpLength, rtp, rtpLength, 0);
}

inline srtp_err_status_t srtp_protect_rtcp(
  srtp_t session,
  const std::uint8_t* rtcp,
  std::size_t rtcpLength,
  std::uint8_t* srtcp,
  std::size_t* srtcpLength,
  std::size_t /*mkiIndex*/)
{
	return srtp3::transform(
	  srtp_protect_rtcp, session, rtcp, rtcpLength, srtcp, srtcpLength, SRTP_MAX_SRTCP_TRAILER_LEN);
}

inline srtp_err_status_t srtp_unprotect_rtcp(
  srtp_t session,
  const std::uint8_t* srtcp,
  std::size_t srtcpLength,
  std::uint8_t* rtcp,
  std::size_t* rtcpLength)
{
	return srtp3::transform(srtp_unprotect_rtcp, session, srtcp, srtcpLength, rtcp, rtcpLength, 0);
}

// Both versions take the SSRC in network byte order.
inline srtp_err_status_t srtp_stream_remove(srtp_t session, std::uint32_t ssrc)
{
	return srtp_remove_stream(session, ssrc);
}
