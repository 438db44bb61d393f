// SPDX-License-Identifier: Apache-2.0
// Wires on a grid: rank i on the left leaves on line 2 i, in a lane of its own; rank j on the right
// is entered on line 2 j + 1. So wires of different ranks share only stretches where they join.
#include "tools/demo/picture.hpp"

#include "tools/common/text.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace kvferry::demo {
namespace {

constexpr std::uint8_t up = 1;
constexpr std::uint8_t down = 2;
constexpr std::uint8_t left_of = 4;
constexpr std::uint8_t right_of = 8;

constexpr std::array<std::string_view, 16> glyphs{" ", "╵", "╷", "│", "╴", "┘", "┐", "┤",
                                                  "╶", "└", "┌", "├", "─", "┴", "┬", "┼"};

/// For each cell: which of its four ends carry wire.
using grid = std::vector<std::vector<std::uint8_t>>;

void run_across(std::vector<std::uint8_t>& line, std::size_t begin, std::size_t end) {
    for (auto column = begin; column < end; ++column)
        line[column] = left_of | right_of; // draws over wires that pass here
}

grid lay(std::size_t ranks, std::size_t lines, std::size_t width,
         const std::vector<picture_wire>& wires) {
    // The first rank's lane is the rightmost: wires of lower ranks turn off before they reach it.
    const auto lane = [ranks](std::size_t rank) { return 2 * (ranks - 1 - rank) + 1; };
    grid cells(lines, std::vector<std::uint8_t>(width, 0));
    for (const auto& wire : wires) {
        const auto [top, bottom] = std::minmax({2 * wire.from, 2 * wire.to + 1});
        for (auto line = top; line <= bottom; ++line)
            cells[line][lane(wire.from)] |=
                static_cast<std::uint8_t>((line > top ? up : 0) | (line < bottom ? down : 0));
    }
    const auto lanes = cells;
    for (const auto& wire : wires) {
        run_across(cells[2 * wire.from], 0, lane(wire.from));
        run_across(cells[2 * wire.to + 1], lane(wire.from) + 1, width);
    }
    for (const auto& wire : wires) { // tees come last, so that nothing draws over them
        const auto column = lane(wire.from);
        auto& leaves = cells[2 * wire.from][column];
        leaves = lanes[2 * wire.from][column] | left_of;
        auto& enters = cells[2 * wire.to + 1][column];
        enters = lanes[2 * wire.to + 1][column] | right_of;
    }
    for (const auto& wire : wires) { // another rank's wire comes in from the left of this tee
        for (const auto& other : wires) {
            if (other.to == wire.to && lane(other.from) < lane(wire.from))
                cells[2 * wire.to + 1][lane(wire.from)] |= left_of;
        }
    }
    return cells;
}

std::string repeat(std::string_view text, std::size_t count) {
    std::string result;
    for (std::size_t i = 0; i < count; ++i)
        result += text;
    return result;
}

std::string padded(const std::string& text, std::size_t columns) {
    return text + std::string(columns - columns_of(text), ' ');
}

std::size_t width_of(const picture_side& side) {
    auto width = columns_of(side.title);
    for (const auto& rank : side.ranks)
        width = std::max(width, columns_of(rank));
    return width;
}

} // namespace

std::vector<std::string> draw(const picture_side& left, const picture_side& right,
                              const std::vector<picture_wire>& wires) {
    const auto lines = 2 * std::max(left.ranks.size(), right.ranks.size());
    const auto left_width = width_of(left);
    const auto right_width = width_of(right);
    const auto wire_width = 2 * left.ranks.size() + 2;
    const auto cells = lay(left.ranks.size(), lines, wire_width, wires);
    const auto border = [&](const char* begin, const char* end) {
        return begin + repeat("─", left_width + 2) + end + std::string(wire_width + 1, ' ') + begin
               + repeat("─", right_width + 2) + end;
    };
    std::vector<std::string> result;
    result.push_back("  " + padded(left.title, left_width + wire_width + 5) + right.title);
    result.push_back(border("┌", "┐"));
    for (std::size_t line = 0; line < lines; ++line) {
        const auto rank = line / 2;
        const bool leaves = line % 2 == 0;
        const auto is_from = [&](const picture_wire& wire) { return leaves && wire.from == rank; };
        const auto is_to = [&](const picture_wire& wire) { return !leaves && wire.to == rank; };
        std::string text = "│ ";
        text += padded(leaves && rank < left.ranks.size() ? left.ranks[rank] : "", left_width);
        text += std::any_of(wires.begin(), wires.end(), is_from) ? " ├" : " │";
        for (auto cell : cells[line])
            text += glyphs[cell];
        text += std::any_of(wires.begin(), wires.end(), is_to) ? "▶│ " : " │ ";
        text += padded(!leaves && rank < right.ranks.size() ? right.ranks[rank] : "", right_width);
        text += " │";
        result.push_back(text);
    }
    result.push_back(border("└", "┘"));
    return result;
}

} // namespace kvferry::demo
