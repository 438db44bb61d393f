// SPDX-License-Identifier: Apache-2.0
// Reads what wire_writer has written, of this release or another one. Memory grows with the bytes
// that are there, never with the lengths that they claim.
#pragma once

#include "messages/wire/codec.hpp"
#include "messages/wire/wire_layout.hpp"
#include "messages/wire/wire_writer.hpp"

#include <caf/byte.hpp>
#include <caf/detail/network_order.hpp>
#include <caf/load_inspector_base.hpp>
#include <caf/sec.hpp>

#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvferry {

class wire_reader : public caf::load_inspector_base<wire_reader> {
public:
    using super = caf::load_inspector_base<wire_reader>;

    wire_reader(byte_view from, std::uint16_t version)
        : at_(from.data()), end_(from.data() + from.size()), grows_(version >= growing_version) {}

    std::size_t remaining() const { return static_cast<std::size_t>(end_ - at_); }

    template <class Struct>
    struct object_reader {
        wire_reader* from;

        template <class... Fields>
        bool fields(Fields&&... each) {
            auto known = fields_of_all_versions<Struct>;
            if (!from->grows_)
                return ((known == 0 || (--known, each(*from))) && ...);
            if constexpr (never_grows<Struct>)
                return (each(*from) && ...);
            const auto* behind = from->end_;
            // What an older writer does not know is not there.
            const auto read = [&](auto& field) {
                if (known > 0)
                    --known;
                else if (from->at_ == from->end_)
                    return true;
                return field(*from);
            };
            if (!from->enter() || !(read(each) && ...))
                return false;
            from->at_ = from->end_; // what only newer readers know
            from->end_ = behind;
            return true;
        }
    };

    template <class Struct>
    auto object(Struct&) {
        return object_reader<Struct>{this};
    }

    bool begin_field(caf::string_view) { return true; }
    bool begin_field(caf::string_view, bool& present) { return value(present); }
    bool end_field() { return true; }

    bool begin_sequence(std::size_t& size) {
        std::uint32_t result = 0;
        for (unsigned shift = 0; shift < 35; shift += 7) {
            if (at_ == end_)
                return too_short();
            const auto each = caf::to_integer<std::uint32_t>(*at_++);
            result |= (each & 0x7f) << shift;
            if (each < 0x80) {
                size = result;
                return true;
            }
        }
        return too_short();
    }
    bool end_sequence() { return true; }

    /// Allocates nothing for a length that the rest of the input cannot hold.
    template <class List>
    bool list(List& xs) {
        using element = typename List::value_type;
        if constexpr (std::is_same_v<List, std::vector<element>> && is_wire_number<element>) {
            std::size_t count = 0;
            if (!begin_sequence(count))
                return false;
            if (count > remaining() / sizeof(element))
                return too_short();
            xs.resize(count);
            const auto* from = at_;
            for (auto& x : xs) {
                take(from, x);
                from += sizeof x;
            }
            at_ = from;
            return true;
        } else {
            return super::list(xs);
        }
    }

    bool value(bool& x) {
        std::uint8_t number = 0;
        const auto ok = value(number);
        x = number != 0;
        return ok;
    }
    bool value(caf::byte& x) {
        if (at_ == end_)
            return too_short();
        x = *at_++;
        return true;
    }
    template <class Number>
    requires std::is_integral_v<Number>
    bool value(Number& x) {
        if (remaining() < sizeof x)
            return too_short();
        take(at_, x);
        at_ += sizeof x;
        return true;
    }
    bool value(std::string& x) {
        std::size_t count = 0;
        if (!begin_sequence(count))
            return false;
        if (count > remaining())
            return too_short();
        x.assign(reinterpret_cast<const char*>(at_), count);
        at_ += count;
        return true;
    }

private:
    /// From here on only the next struct's bytes are read.
    bool enter() {
        std::uint32_t bytes = 0;
        if (!value(bytes))
            return false;
        if (bytes > remaining())
            return too_short();
        end_ = at_ + bytes;
        return true;
    }

    template <class Number>
    static void take(const caf::byte* from, Number& x) {
        if constexpr (sizeof x == 1) {
            x = static_cast<Number>(*from);
        } else {
            std::make_unsigned_t<Number> ordered;
            std::memcpy(&ordered, from, sizeof ordered);
            x = static_cast<Number>(caf::detail::from_network_order(ordered));
        }
    }

    bool too_short() {
        emplace_error(caf::sec::end_of_stream);
        return false;
    }

    const caf::byte* at_;
    const caf::byte* end_;
    bool grows_;
};

} // namespace kvferry
