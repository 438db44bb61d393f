// SPDX-License-Identifier: Apache-2.0
// Loops written so that a compiler vectorises them without changing the order of any sum.
#include "tools/engine/math.hpp"

#include "tools/engine/random.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>

namespace kvferry::engine {
namespace {

constexpr std::size_t lanes = 8;

// Four floats in a register. Named as such because GCC at -O3 otherwise vectorises across `in`,
// with twice the time spent on shuffling.
using quad = float __attribute__((vector_size(16)));

quad load(const float* from) {
    quad value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// One panel of eight outputs for `Rows` rows of x; writes `width` <= 8 outputs of each.
template <std::size_t Rows>
void apply_panel(const float* panel, std::size_t in, const float* x, float* y, std::size_t out,
                 std::size_t width) {
    std::array<quad, Rows> low{};
    std::array<quad, Rows> high{};
    for (std::size_t i = 0; i < in; ++i) {
        const quad weights_low = load(panel + i * lanes);
        const quad weights_high = load(panel + i * lanes + lanes / 2);
        for (std::size_t r = 0; r < Rows; ++r) {
            low[r] += x[r * in + i] * weights_low;
            high[r] += x[r * in + i] * weights_high;
        }
    }
    for (std::size_t r = 0; r < Rows; ++r) {
        std::array<float, lanes> sums;
        std::memcpy(sums.data(), &low[r], sizeof low[r]);
        std::memcpy(sums.data() + lanes / 2, &high[r], sizeof high[r]);
        std::copy_n(sums.data(), width, y + r * out);
    }
}

} // namespace

matrix::matrix(std::size_t out, std::size_t in)
    : out_(out), in_(in), panels_((out + lanes - 1) / lanes * lanes * in) {}

matrix matrix::random(std::size_t out, std::size_t in, std::uint64_t seed, float gain) {
    matrix result(out, in);
    splitmix64 numbers(seed);
    // A uniform value in [-a, a] has variance a^2 / 3.
    const float scale = gain * std::sqrt(3.0F / static_cast<float>(in));
    for (std::size_t row = 0; row < out; ++row) {
        for (std::size_t column = 0; column < in; ++column)
            result.set(row, column, numbers.next_symmetric() * scale);
    }
    return result;
}

void matrix::set(std::size_t row, std::size_t column, float value) {
    panels_[(row / lanes * in_ + column) * lanes + row % lanes] = value;
}

void matrix::apply(std::span<const float> x, std::span<float> y) const {
    constexpr std::size_t rows_at_once = 4;
    const std::size_t rows = x.size() / in_;
    assert(x.size() == rows * in_ && y.size() == rows * out_);
    for (std::size_t first = 0; first < out_; first += lanes) {
        const float* panel = panels_.data() + first * in_;
        const std::size_t width = std::min(lanes, out_ - first);
        std::size_t row = 0;
        for (; row + rows_at_once <= rows; row += rows_at_once)
            apply_panel<rows_at_once>(panel, in_, x.data() + row * in_,
                                      y.data() + row * out_ + first, out_, width);
        for (; row < rows; ++row)
            apply_panel<1>(panel, in_, x.data() + row * in_, y.data() + row * out_ + first, out_,
                           width);
    }
}

void rms_norm(std::span<const float> x, std::span<const float> weight, std::span<float> out) {
    assert(x.size() == weight.size() && x.size() == out.size());
    constexpr float epsilon = 1e-5F;
    const float mean = dot(x, x) / static_cast<float>(x.size());
    const float scale = 1.0F / std::sqrt(mean + epsilon);
    for (std::size_t i = 0; i < x.size(); ++i)
        out[i] = x[i] * scale * weight[i];
}

void softmax(std::span<float> x) {
    const float largest = *std::max_element(x.begin(), x.end());
    float sum = 0.0F;
    for (float& value : x) {
        value = std::exp(value - largest);
        sum += value;
    }
    for (float& value : x)
        value /= sum;
}

float dot(std::span<const float> a, std::span<const float> b) {
    assert(a.size() == b.size());
    // Eight partial sums, then a fixed tree, then the tail: an order, not a licence to reorder.
    std::array<float, lanes> sums{};
    const std::size_t whole = a.size() / lanes * lanes;
    for (std::size_t i = 0; i < whole; i += lanes) {
        for (std::size_t lane = 0; lane < lanes; ++lane)
            sums[lane] += a[i + lane] * b[i + lane];
    }
    float sum =
        ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    for (std::size_t i = whole; i < a.size(); ++i)
        sum += a[i] * b[i];
    return sum;
}

void swiglu(std::span<float> gate, std::span<const float> up) {
    assert(gate.size() == up.size());
    for (std::size_t i = 0; i < gate.size(); ++i)
        gate[i] = gate[i] / (1.0F + std::exp(-gate[i])) * up[i];
}

std::size_t argmax(std::span<const float> x) {
    return static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin());
}

rotary::rotary(std::size_t head_dim, float theta) : frequencies_(head_dim / 2) {
    for (std::size_t i = 0; i < frequencies_.size(); ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
        frequencies_[i] = std::pow(static_cast<double>(theta), exponent);
    }
}

void rotary::angles(std::size_t position, std::span<float> out) const {
    const std::size_t pairs = frequencies_.size();
    assert(out.size() == 2 * pairs);
    for (std::size_t i = 0; i < pairs; ++i) {
        const double angle = static_cast<double>(position) * frequencies_[i];
        out[i] = static_cast<float>(std::cos(angle));
        out[pairs + i] = static_cast<float>(std::sin(angle));
    }
}

void rotary::turn(std::span<float> head, std::span<const float> angles) {
    assert(head.size() == angles.size());
    const std::size_t pairs = head.size() / 2;
    for (std::size_t i = 0; i < pairs; ++i) {
        const float low = head[i];
        const float high = head[pairs + i];
        head[i] = low * angles[i] - high * angles[pairs + i];
        head[pairs + i] = high * angles[i] + low * angles[pairs + i];
    }
}

} // namespace kvferry::engine
