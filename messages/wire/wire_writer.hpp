// SPDX-License-Identifier: Apache-2.0
// Writes values through their inspect(): integers big endian at their width, one byte per
// enumeration and flag, lists and texts with a length in front.
#pragma once

#include "messages/wire/wire_layout.hpp"

#include <caf/byte.hpp>
#include <caf/detail/network_order.hpp>
#include <caf/save_inspector_base.hpp>
#include <caf/string_view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvferry {

/// Numbers that a list holds side by side.
template <class T>
inline constexpr bool is_wire_number =
    (std::is_integral_v<T> && !std::is_same_v<T, bool>) || std::is_same_v<T, caf::byte>;

/// Appends to a buffer, which is longer than what was written until the writer is gone.
class wire_writer : public caf::save_inspector_base<wire_writer> {
public:
    using super = caf::save_inspector_base<wire_writer>;

    wire_writer(byte_buffer& into, std::uint16_t version)
        : into_(into), at_(into.data() + into.size()), end_(at_),
          grows_(version >= growing_version) {}
    wire_writer(const wire_writer&) = delete;
    ~wire_writer() { into_.resize(used()); }

    template <class Struct>
    struct object_writer {
        wire_writer* to;

        template <class... Fields>
        bool fields(Fields&&... each) {
            if (!to->grows_) {
                auto left = fields_of_all_versions<Struct>;
                return ((left == 0 || (--left, each(*to))) && ...);
            }
            if constexpr (never_grows<Struct>)
                return (each(*to) && ...);
            const auto at = to->used();
            return to->value(std::uint32_t{0}) && (each(*to) && ...) && to->set_length(at);
        }
    };

    template <class Struct>
    auto object(Struct&) {
        return object_writer<std::remove_const_t<Struct>>{this};
    }

    bool begin_field(caf::string_view) { return true; }
    bool begin_field(caf::string_view, bool present) { return value(present); }
    bool end_field() { return true; }

    bool begin_sequence(std::size_t size) {
        auto left = static_cast<std::uint32_t>(size);
        if (left != size)
            return refuse();
        for (; left > 0x7f; left >>= 7)
            *room(1) = static_cast<caf::byte>((left & 0x7f) | 0x80);
        *room(1) = static_cast<caf::byte>(left);
        return true;
    }
    bool end_sequence() { return true; }

    /// Numbers in one step instead of one call for each.
    template <class List>
    bool list(const List& xs) {
        using element = typename List::value_type;
        if constexpr (std::is_same_v<List, std::vector<element>> && is_wire_number<element>) {
            if (!begin_sequence(xs.size()))
                return false;
            auto* to = room(xs.size() * sizeof(element));
            for (auto x : xs) {
                put(to, x);
                to += sizeof x;
            }
            return true;
        } else {
            return super::list(xs);
        }
    }

    bool value(bool x) { return value(static_cast<std::uint8_t>(x)); }
    bool value(caf::byte x) {
        *room(1) = x;
        return true;
    }
    template <class Number>
    requires std::is_integral_v<Number>
    bool value(Number x) {
        put(room(sizeof x), x);
        return true;
    }
    bool value(caf::string_view x) {
        if (!begin_sequence(x.size()))
            return false;
        if (!x.empty())
            std::memcpy(room(x.size()), x.data(), x.size());
        return true;
    }

private:
    template <class Number>
    static void put(caf::byte* to, Number x) {
        if constexpr (sizeof x == 1) {
            *to = static_cast<caf::byte>(x);
        } else {
            const auto ordered =
                caf::detail::to_network_order(static_cast<std::make_unsigned_t<Number>>(x));
            std::memcpy(to, &ordered, sizeof ordered);
        }
    }

    std::size_t used() const { return static_cast<std::size_t>(at_ - into_.data()); }

    /// Where the next bytes go.
    caf::byte* room(std::size_t bytes) {
        if (static_cast<std::size_t>(end_ - at_) < bytes) [[unlikely]]
            grow(bytes);
        return std::exchange(at_, at_ + bytes);
    }

    /// In steps: fields are short and many.
    [[gnu::noinline]] void grow(std::size_t bytes) {
        const auto before = used();
        into_.resize(std::max(2 * into_.size(), before + bytes + step_bytes));
        at_ = into_.data() + before;
        end_ = into_.data() + into_.size();
    }

    bool set_length(std::size_t at) {
        const auto bytes = used() - at - sizeof(std::uint32_t);
        if (bytes > std::numeric_limits<std::uint32_t>::max())
            return refuse();
        put(into_.data() + at, static_cast<std::uint32_t>(bytes));
        return true;
    }

    bool refuse() {
        emplace_error(caf::sec::runtime_error, "longer than 4 GiB");
        return false;
    }

    static constexpr std::size_t step_bytes = 240;

    byte_buffer& into_;
    /// Behind what is written, and behind the buffer.
    caf::byte* at_;
    caf::byte* end_;
    bool grows_;
};

} // namespace kvferry
