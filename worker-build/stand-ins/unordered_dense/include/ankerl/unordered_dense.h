// The part of ankerl::unordered_dense that the media worker uses, over the standard
// containers: same names, same template parameters, weaker cache locality.
#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>

namespace ankerl::unordered_dense
{
	// The original mixes integers well, and the worker combines such hashes; the standard
	// library's are the identity.
	template<typename T>
	struct hash
	{
		using is_avalanching = void;

		auto operator()(const T& value) const noexcept -> std::uint64_t
		{
			if constexpr (std::is_integral_v<T> || std::is_enum_v<T>)
			{
				return mix(static_cast<std::uint64_t>(value));
			}
			else
			{
				return mix(std::hash<T>{}(value));
			}
		}

	private:
		// The finalizer of SplitMix64: every input bit changes half of the output bits.
		static constexpr auto mix(std::uint64_t bits) noexcept -> std::uint64_t
		{
			bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9U;
			bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebU;

			return bits ^ (bits >> 31);
		}
	};

	template<typename Key, typename T, typename Hash = hash<Key>, typename Equal = std::equal_to<Key>>
	using map = std::unordered_map<Key, T, Hash, Equal>;

	template<typename Key, typename Hash = hash<Key>, typename Equal = std::equal_to<Key>>
	using set = std::unordered_set<Key, Hash, Equal>;
} // namespace ankerl::unordered_dense
