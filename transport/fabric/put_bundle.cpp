// SPDX-License-Identifier: Apache-2.0
// Heads of bundles are packed and read again; what is read was checked for length first.
#include "transport/fabric/put_bundle.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace kvferry {

namespace {

/// Returns the end.
template <class T>
caf::byte* put(caf::byte* to, const T* from, std::size_t count) {
    std::memcpy(to, static_cast<const void*>(from), count * sizeof(T));
    return to + count * sizeof(T);
}

template <class T>
void take(byte_view& from, std::vector<T>& to, std::size_t count) {
    to.resize(count);
    std::memcpy(static_cast<void*>(to.data()), from.data(), count * sizeof(T));
    from = from.subspan(count * sizeof(T));
}

} // namespace

byte_buffer pack_bundle(incarnation self, const post_bundle& bundle,
                        const std::function<access_key_head(std::uint32_t)>& key_of) {
    std::vector<std::uint32_t> regions;
    std::vector<bundle_stretch> stretches;
    stretches.reserve(bundle.stretches.size());
    for (const auto& x : bundle.stretches) {
        // Neighbours share a region as a rule.
        auto found = regions.empty() || regions.back() != x.target_region
                         ? std::find(regions.begin(), regions.end(), x.target_region)
                         : std::prev(regions.end());
        if (found == regions.end())
            found = regions.insert(found, x.target_region);
        stretches.push_back({x.target_address, static_cast<std::uint32_t>(x.bytes),
                             static_cast<std::uint32_t>(found - regions.begin())});
    }
    std::vector<access_key_head> keys;
    keys.reserve(regions.size());
    for (auto region : regions)
        keys.push_back(key_of(region));
    const bundle_head head{.sender = self.value,
                           .put = bundle.put,
                           .attempt = bundle.attempt.value,
                           .keys = static_cast<std::uint32_t>(keys.size()),
                           .stretches = static_cast<std::uint32_t>(stretches.size())};
    byte_buffer result(sizeof head + keys.size() * sizeof(access_key_head)
                       + stretches.size() * sizeof(bundle_stretch)
                       + (bundle.sums ? sizeof(message_sums) : 0));
    auto* at = put(result.data(), &head, 1);
    at = put(at, keys.data(), keys.size());
    put(at, stretches.data(), stretches.size());
    return result;
}

byte_buffer with_room_for_sums(const write_head& head) {
    byte_buffer result(sizeof head + sizeof(message_sums));
    put(result.data(), &head, 1);
    return result;
}

void say_sums(fabric_message what, std::span<caf::byte> head, std::span<const byte_view> payload,
              const void* next) {
    std::size_t first = 0;   // where the address of the first stretch stands,
    std::size_t stride = 0;  // how far the next one is from it,
    std::size_t counted = 0; // and where the sums do
    if (what == fabric_message::write) {
        first = offsetof(write_head, address);
        counted = sizeof(write_head);
    } else if (what == fabric_message::bundle && head.size() > sizeof(bundle_head)) {
        bundle_head counts;
        std::memcpy(static_cast<void*>(&counts), head.data(), sizeof counts);
        const auto keys = sizeof counts + counts.keys * sizeof(access_key_head);
        first = keys + offsetof(bundle_stretch, address);
        stride = sizeof(bundle_stretch);
        counted = keys + counts.stretches * sizeof(bundle_stretch);
    }
    if (counted == 0 || head.size() != counted + sizeof(message_sums))
        return;
    message_adder adder;
    for (std::size_t index = 0; index < payload.size(); ++index) {
        std::uint64_t address = 0;
        std::memcpy(&address, head.data() + first + index * stride, sizeof address);
        const auto& bytes = payload[index];
        adder.add(address, bytes.data(), bytes.size(),
                  index + 1 < payload.size() ? payload[index + 1].data() : next);
    }
    put(head.data() + counted, &adder.value(), 1);
}

write_head put_bundle::write(const bundle_stretch& x) const {
    return {.sender = head.sender,
            .put = head.put,
            .region = keys[x.key].region,
            .secret = keys[x.key].secret,
            .address = x.address,
            .attempt = head.attempt};
}

caf::expected<put_bundle> parse_bundle(byte_view from, std::uint64_t payload_bytes) {
    put_bundle result;
    const auto malformed = [&](const char* why) {
        return make_error(errc::malformed_message, "the head of a bundle, {} bytes long, {}",
                          from.size(), why);
    };
    auto left = from;
    if (left.size() < sizeof result.head)
        return malformed("is cut off");
    std::memcpy(static_cast<void*>(&result.head), left.data(), sizeof result.head);
    left = left.subspan(sizeof result.head);
    const auto& head = result.head;
    if (head.keys == 0 || head.keys > bundle_keys_max || head.stretches == 0
        || head.stretches > bundle_stretches_max)
        return malformed("names no stretches, or too many");
    const auto counted =
        head.keys * sizeof(access_key_head) + head.stretches * sizeof(bundle_stretch);
    if (left.size() != counted && left.size() != counted + sizeof(message_sums))
        return malformed("has another length than its counts");
    take(left, result.keys, head.keys);
    take(left, result.stretches, head.stretches);
    result.sums = sums_behind(left, 0);
    std::uint64_t bytes = 0;
    for (const auto& x : result.stretches) {
        if (x.key >= head.keys)
            return malformed("names a key that it does not have");
        bytes += x.bytes;
    }
    if (bytes != payload_bytes)
        return malformed("announces another number of bytes than came");
    return result;
}

} // namespace kvferry
