// SPDX-License-Identifier: Apache-2.0
// Bytes of addresses and hellos.
#include "transport/shm/shm_address.hpp"

#include "messages/values/error_format.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <cstring>

namespace kvferry {

namespace {

constexpr std::string_view address_label = "shared-memory address";
/// Its number is that of the layout of rings.
constexpr std::string_view hello_label = "shared-memory hello 1";
/// Longest machine id, or name of a socket.
constexpr std::size_t text_bytes_max = 100;

void append(byte_buffer& to, const std::string& text) {
    to.push_back(static_cast<caf::byte>(text.size()));
    const auto* bytes = reinterpret_cast<const caf::byte*>(text.data());
    to.insert(to.end(), bytes, bytes + text.size());
}

/// Takes a text off the front.
bool take(byte_view& from, std::string& text) {
    if (from.empty())
        return false;
    const auto count = static_cast<std::size_t>(from[0]);
    if (count > text_bytes_max || from.size() - 1 < count)
        return false;
    text.assign(reinterpret_cast<const char*>(from.data()) + 1, count);
    from = from.subspan(1 + count);
    return true;
}

} // namespace

byte_buffer pack(const shm_address& x) {
    byte_buffer inside(sizeof x.secret);
    std::memcpy(inside.data(), &x.secret, sizeof x.secret);
    append(inside, x.machine);
    append(inside, x.name);
    return seal(address_label, inside.data(), inside.size());
}

caf::expected<shm_address> parse_shm_address(byte_view bytes) {
    auto inside = unseal(address_label, bytes);
    if (!inside)
        return make_error(errc::dial_failed, text_of(inside.error()));
    shm_address result;
    if (inside->size() >= sizeof result.secret) {
        std::memcpy(&result.secret, inside->data(), sizeof result.secret);
        auto rest = inside->subspan(sizeof result.secret);
        if (take(rest, result.machine) && take(rest, result.name) && rest.empty())
            return result;
    }
    return make_error(errc::dial_failed, "{} bytes are no shared-memory address", bytes.size());
}

byte_buffer pack(const shm_hello& x) {
    return seal_value(hello_label, x);
}

caf::expected<shm_hello> parse_shm_hello(byte_view bytes) {
    auto inside = unseal(hello_label, bytes);
    if (!inside)
        return make_error(errc::malformed_message, "{}: is it of another release?",
                          text_of(inside.error()));
    shm_hello result;
    if (inside->size() < sizeof result)
        return make_error(errc::malformed_message, "a {} of {} bytes", hello_label, inside->size());
    std::memcpy(static_cast<void*>(&result), inside->data(), sizeof result);
    return result;
}

} // namespace kvferry
