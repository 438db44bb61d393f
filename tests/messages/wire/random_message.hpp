// SPDX-License-Identifier: Apache-2.0
// Messages filled with random values through their own inspect(): a new message needs no code here.
#pragma once

#include "messages/wire/protocol.hpp"

#include <caf/load_inspector_base.hpp>

#include <array>
#include <cstdlib>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

namespace kvferry::testing {

namespace detail {

/// Converts to the type of any member. Without the constraint, std::optional would be ambiguous.
struct anything {
    template <class T>
    requires(!std::is_same_v<T, std::nullopt_t>) operator T() const;
};

/// How many members an aggregate has: the longest list of initialisers it accepts.
template <class T, class... Members>
constexpr std::size_t member_count() {
    if constexpr (requires { T{std::declval<Members>()..., std::declval<anything>()}; })
        return member_count<T, Members..., anything>();
    else
        return sizeof...(Members);
}

} // namespace detail

/// An inspector that draws random values instead of reading input. Numbers and lists are never
/// empty or zero; enumerations take any value that their inspect() accepts. Does not compile for a
/// type whose inspect() leaves a member out.
class random_filler : public caf::load_inspector_base<random_filler> {
public:
    explicit random_filler(std::mt19937_64& source) : source_(source) {}

    template <class T>
    struct object_filler {
        random_filler* filler;

        template <class... Fields>
        bool fields(Fields&&... each) {
            static_assert(sizeof...(Fields) == detail::member_count<T>(),
                          "inspect() must name every member exactly once");
            return (each(*filler) && ...);
        }
    };

    template <class T>
    auto object(T&) {
        return object_filler<T>{this};
    }

    template <class T>
    bool apply(T& x) {
        return caf::load_inspector_base<random_filler>::apply(x);
    }

    template <class Get, class Set>
    bool apply(Get&& get, Set&& set) {
        for (;;) {
            auto number = get();
            if (value(number) && set(number))
                return true;
        }
    }

    bool begin_field(caf::string_view) { return true; }
    bool begin_field(caf::string_view, bool& present) {
        present = source_() % 8 != 0;
        return true;
    }
    bool end_field() { return true; }
    bool begin_sequence(std::size_t& size) {
        size = 1 + source_() % 3;
        return true;
    }
    bool end_sequence() { return true; }

    bool value(bool& x) {
        x = true; // a lost field would be false
        return true;
    }
    bool value(caf::byte& x) {
        x = static_cast<caf::byte>(source_());
        return true;
    }
    bool value(std::string& x) {
        x.assign(1 + source_() % 20, static_cast<char>('a' + source_() % 26));
        return true;
    }
    template <class Number>
    requires std::is_integral_v<Number>
    bool value(Number& x) {
        do
            x = static_cast<Number>(source_());
        while (x == Number{0});
        return true;
    }

private:
    std::mt19937_64& source_;
};

namespace detail {

template <std::size_t Index>
wire_message random_alternative(std::mt19937_64& source) {
    wire_message result{std::in_place_index<Index>};
    random_filler filler{source};
    if (!filler.apply(std::get<Index>(result)))
        std::abort(); // the filler never refuses a value
    header_of(result).version = protocol_version;
    return result;
}

template <std::size_t... Is>
constexpr auto random_alternatives(std::index_sequence<Is...>) {
    return std::array{&random_alternative<Is>...};
}

} // namespace detail

inline constexpr std::size_t message_types = std::variant_size_v<wire_message>;

/// A message of the type at `index` in wire_message.
inline wire_message random_message(std::size_t index, std::mt19937_64& source) {
    static constexpr auto makers =
        detail::random_alternatives(std::make_index_sequence<message_types>{});
    return makers.at(index)(source);
}

/// The seed of random tests: KVFERRY_SEED when it is set. Tests print it with CAPTURE.
inline std::uint64_t random_seed(std::uint64_t otherwise) {
    const char* text = std::getenv("KVFERRY_SEED");
    return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

} // namespace kvferry::testing
