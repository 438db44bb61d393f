// SPDX-License-Identifier: Apache-2.0
// The arithmetic of a decoder layer, each sum in one fixed order.
//
// A row's result never depends on which rows are computed beside it, so a prompt computed at once
// and the same prompt computed token by token agree to the last bit. This holds as long as the
// compiler does not fuse or reorder: build without -ffast-math and with -ffp-contract=off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvferry::engine {

/// A dense layer without bias: y = W x, W of shape [out][in].
class matrix {
public:
    /// Zeros.
    matrix(std::size_t out, std::size_t in);

    /// Uniform values of variance gain^2 / in, a function of (out, in, seed, gain) only.
    static matrix random(std::size_t out, std::size_t in, std::uint64_t seed, float gain = 1.0F);

    void set(std::size_t row, std::size_t column, float value);

    /// x is [rows][in], y is [rows][out]; y must not overlap x.
    void apply(std::span<const float> x, std::span<float> y) const;

    std::size_t out() const noexcept { return out_; }
    std::size_t in() const noexcept { return in_; }

private:
    std::size_t out_;
    std::size_t in_;
    // [out / 8 rounded up][in][8]: eight outputs grow side by side in vector registers, each
    // summed over `in` in ascending order, while the weights are read front to back.
    std::vector<float> panels_;
};

/// out[i] = weight[i] * x[i] / sqrt(mean(x^2) + 1e-5); x, weight and out have one length.
void rms_norm(std::span<const float> x, std::span<const float> weight, std::span<float> out);

/// In place; subtracts the maximum first. `x` is not empty.
void softmax(std::span<float> x);

/// a and b have one length.
float dot(std::span<const float> a, std::span<const float> b);

/// gate[i] = silu(gate[i]) * up[i].
void swiglu(std::span<float> gate, std::span<const float> up);

/// The lowest index of the largest value; `x` is not empty.
std::size_t argmax(std::span<const float> x);

/// Rotary positions, pairs (i, i + head_dim / 2), angle position * theta^(-2 i / head_dim).
class rotary {
public:
    rotary(std::size_t head_dim, float theta);

    /// cosines then sines of one position: head_dim floats.
    void angles(std::size_t position, std::span<float> out) const;

    /// Turns one head in place by what angles() gave.
    static void turn(std::span<float> head, std::span<const float> angles);

private:
    std::vector<double> frequencies_;
};

} // namespace kvferry::engine
