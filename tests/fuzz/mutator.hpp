// SPDX-License-Identifier: Apache-2.0
// Draws inputs: a seed, or a piece of two, with some of its bytes changed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace kvferry::fuzz {

using input = std::vector<std::uint8_t>;

class mutator {
public:
    mutator(std::vector<input> seeds, std::uint64_t seed, std::size_t bytes_max)
        : seeds_(std::move(seeds)), random_(seed), bytes_max_(bytes_max) {
        seeds_.push_back({});
    }

    const input& next() {
        now_ = any_seed();
        if (draw(4) == 0)
            splice();
        for (auto left = 1 + draw(8); left > 0; --left)
            change();
        now_.resize(std::min(now_.size(), bytes_max_));
        return now_;
    }

private:
    std::size_t draw(std::size_t below) { return static_cast<std::size_t>(random_() % below); }
    const input& any_seed() { return seeds_[draw(seeds_.size())]; }
    std::ptrdiff_t place() { return static_cast<std::ptrdiff_t>(draw(now_.size() + 1)); }

    /// The beginning of one seed, the end of another.
    void splice() {
        const auto& other = any_seed();
        const auto from = static_cast<std::ptrdiff_t>(draw(other.size() + 1));
        now_.resize(static_cast<std::size_t>(place()));
        now_.insert(now_.end(), other.begin() + from, other.end());
    }

    void change() {
        const auto at = place();
        const auto left = now_.size() - static_cast<std::size_t>(at);
        switch (left == 0 ? draw(2) : draw(8)) {
        case 0: // bytes of its own are put in
            for (auto count = 1 + draw(16); count > 0; --count)
                now_.insert(now_.begin() + at, static_cast<std::uint8_t>(random_()));
            break;
        case 1: { // and of another seed
            const auto& other = any_seed();
            const auto from = draw(other.size() + 1);
            const auto count = std::min(other.size() - from, draw(64) + 1);
            const auto first = other.begin() + static_cast<std::ptrdiff_t>(from);
            now_.insert(now_.begin() + at, first, first + static_cast<std::ptrdiff_t>(count));
            break;
        }
        case 2:
            now_[static_cast<std::size_t>(at)] ^= static_cast<std::uint8_t>(1u << draw(8));
            break;
        case 3:
            now_[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(random_());
            break;
        case 4:
            now_.erase(now_.begin() + at,
                       now_.begin() + at
                           + static_cast<std::ptrdiff_t>(std::min(left, draw(32) + 1)));
            break;
        case 5:
            now_.resize(static_cast<std::size_t>(at));
            break;
        case 6: { // again
            const input piece(now_.begin() + at,
                              now_.begin() + at
                                  + static_cast<std::ptrdiff_t>(std::min(left, draw(64) + 1)));
            now_.insert(now_.begin() + at, piece.begin(), piece.end());
            break;
        }
        default:
            write_number(static_cast<std::size_t>(at), left);
        }
    }

    /// One at the edge of a type, or nearly, of any width and either order of bytes.
    void write_number(std::size_t at, std::size_t left) {
        const auto bytes = std::min(left, std::size_t{1} << draw(4));
        auto value = std::uint64_t{1} << draw(64);
        value = draw(4) == 0 ? 0 : value;
        value += draw(3) - 1;
        const auto backwards = draw(2) == 0;
        for (std::size_t i = 0; i < bytes; ++i)
            now_[at + (backwards ? bytes - 1 - i : i)] =
                static_cast<std::uint8_t>(value >> (8 * i));
    }

    std::vector<input> seeds_;
    std::mt19937_64 random_;
    std::size_t bytes_max_;
    input now_;
};

} // namespace kvferry::fuzz
