// SPDX-License-Identifier: Apache-2.0
// A wire on which a bit of a put's bytes flips, once, when a test says so: after the real wire
// below has brought the message, before its fabric looks at it.
#pragma once

#include "transport/fabric/put_bundle.hpp"
#include "transport/wires/spawn_fabric.hpp"

#include <atomic>
#include <memory>
#include <utility>

namespace kvferry::testing {

/// Set by the test, served on the loop's thread.
struct flip_order {
    /// Which bit of the next message with bytes of a put, modulo its length; -1: none.
    std::atomic<std::int64_t> bit{-1};
    /// Where its byte belongs.
    std::atomic<std::uint64_t> address{0};
};

class flipping_wire : public wire, private wire_user {
public:
    flipping_wire(std::unique_ptr<wire> below, std::shared_ptr<flip_order> order)
        : below_(std::move(below)), order_(std::move(order)) {}

    // -- the wire, as it is
    void start(wire_user& user) override {
        user_ = &user;
        below_->start(*this);
    }
    byte_buffer address() const override { return below_->address(); }
    std::string transports() const override { return below_->transports(); }
    std::string_view key_label() const override { return below_->key_label(); }
    bool by_message() const override { return below_->by_message(); }
    caf::error check_room() override { return below_->check_room(); }
    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation peer, byte_view address,
                                                            endpoint_id id) override {
        return below_->connect(peer, address, id);
    }
    caf::expected<byte_buffer> map(region_id id, const register_region& what) override {
        return below_->map(id, what);
    }
    void unmap(region_id id) override { below_->unmap(id); }
    std::vector<wire_event> take_events() override { return below_->take_events(); }
    void wake() override { below_->wake(); }
    void progress() override { below_->progress(); }
    void destroy() noexcept override { below_->destroy(); }

private:
    // -- its user
    void arrived(fabric_message what, byte_view head, byte_view payload) override {
        if (what == fabric_message::write || what == fabric_message::bundle)
            if (const auto at = next(payload.size())) {
                byte_buffer changed{payload.begin(), payload.end()};
                changed[*at / 8] ^= caf::byte{1} << *at % 8;
                order_->address = address_of(what, head, payload.size(), *at / 8);
                return user_->arrived(what, head, changed);
            }
        user_->arrived(what, head, payload);
    }
    landing land(fabric_message what, byte_view head, std::uint64_t bytes) override {
        return user_->land(what, head, bytes);
    }
    bool may_land(fabric_message what, byte_view head, landing& x) override {
        return user_->may_land(what, head, x);
    }
    void landed(landing&& x) override {
        std::uint64_t bytes = 0;
        for (const auto& place : x.places)
            bytes += place.size();
        if (x.how == landing::kind::in_place)
            if (const auto at = next(bytes)) {
                auto left = *at / 8;
                auto place = x.places.begin();
                for (; left >= place->size(); ++place)
                    left -= place->size();
                (*place)[left] ^= std::byte{1} << *at % 8;
                order_->address = reinterpret_cast<std::uint64_t>(place->data() + left);
            }
        user_->landed(std::move(x));
    }
    bool on_progress() override { return user_->on_progress(); }
    void after(std::chrono::nanoseconds wait, std::function<void()> what) override {
        user_->after(wait, std::move(what));
    }

    std::optional<std::uint64_t> next(std::uint64_t bytes) {
        if (bytes == 0)
            return std::nullopt;
        const auto bit = order_->bit.exchange(-1);
        return bit < 0 ? std::nullopt
                       : std::optional{static_cast<std::uint64_t>(bit) % (8 * bytes)};
    }

    static std::uint64_t address_of(fabric_message what, byte_view head, std::size_t bytes,
                                    std::uint64_t offset) {
        if (what == fabric_message::write)
            return read_head<write_head>(head)->address + offset;
        const auto bundle = parse_bundle(head, bytes);
        for (const auto& x : bundle->stretches) {
            if (offset < x.bytes)
                return x.address + offset;
            offset -= x.bytes;
        }
        return 0;
    }

    std::unique_ptr<wire> below_;
    std::shared_ptr<flip_order> order_;
    wire_user* user_ = nullptr;
};

inline wire_maker flipping(wire_maker make, std::shared_ptr<flip_order> order) {
    return [make = std::move(make), order]() -> caf::expected<std::unique_ptr<wire>> {
        auto below = make();
        if (!below)
            return std::move(below.error());
        return std::unique_ptr<wire>{std::make_unique<flipping_wire>(std::move(*below), order)};
    };
}

} // namespace kvferry::testing
