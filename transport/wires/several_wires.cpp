// SPDX-License-Identifier: Apache-2.0
#include "transport/wires/several_wires.hpp"

#include "messages/values/error_format.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvferry {

namespace {

constexpr std::string_view list_label = "list of wires";

struct wire_address {
    std::string name;
    byte_buffer address;
};

byte_buffer write_addresses(const std::vector<wire_address>& all) {
    byte_buffer bytes;
    caf::binary_serializer sink{nullptr, bytes};
    auto ok = sink.begin_sequence(all.size());
    for (const auto& each : all) {
        ok = ok && sink.value(each.name) && sink.begin_sequence(each.address.size());
        ok = ok && sink.value(byte_view{each.address}) && sink.end_sequence();
    }
    return ok ? seal(list_label, bytes.data(), bytes.size()) : byte_buffer{};
}

/// Lengths are checked against what is there before anything is allocated.
caf::expected<std::vector<wire_address>> read_addresses(byte_view sealed) {
    auto inside = unseal(list_label, sealed);
    if (!inside)
        return std::move(inside.error());
    caf::binary_deserializer source{nullptr, inside->data(), inside->size()};
    std::vector<wire_address> result;
    std::size_t count = 0;
    bool ok = source.begin_sequence(count) && count <= wires_max;
    for (std::size_t index = 0; ok && index < count; ++index) {
        wire_address each;
        std::size_t bytes = 0;
        ok = source.value(each.name) && source.begin_sequence(bytes) && bytes <= source.remaining();
        if (!ok)
            break;
        each.address.resize(bytes);
        ok = source.value(caf::span<caf::byte>{each.address}) && source.end_sequence();
        result.push_back(std::move(each));
    }
    if (!ok || source.remaining() != 0)
        return make_error(errc::invalid_argument, "{} bytes are no list of wires", inside->size());
    return result;
}

class several_wires final : public wire {
public:
    explicit several_wires(std::vector<named_wire> all) : all_(std::move(all)) {}

    void start(wire_user& user) override {
        for (auto& each : all_)
            each.below->start(user);
    }

    byte_buffer address() const override {
        std::vector<wire_address> list;
        for (const auto& each : all_)
            list.push_back({each.name, each.below->address()});
        return write_addresses(list);
    }

    std::string transports() const override {
        std::string result;
        for (const auto& each : all_)
            result += (result.empty() ? "" : "; ") + each.below->transports();
        return result;
    }

    std::string_view key_label() const override { return "access key"; }

    bool by_message() const override {
        return std::all_of(all_.begin(), all_.end(),
                           [](const named_wire& each) { return each.below->by_message(); });
    }

    /// There is room when the one with the most need has some.
    caf::error check_room() override {
        for (auto& each : all_)
            if (auto problem = each.below->check_room())
                return problem;
        return {};
    }

    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation peer, byte_view address,
                                                            endpoint_id) override;

    caf::expected<byte_buffer> map(region_id id, const register_region& region) override {
        byte_buffer key;
        for (auto& each : all_) {
            auto mapped = each.below->map(id, region);
            if (!mapped) {
                unmap(id);
                return mapped;
            }
            if (!mapped->empty())
                key = std::move(*mapped);
        }
        return key;
    }

    void unmap(region_id id) override {
        for (auto& each : all_)
            each.below->unmap(id);
    }

    std::vector<wire_event> take_events() override {
        auto result = all_.front().below->take_events();
        for (auto each = all_.begin() + 1; each != all_.end(); ++each) {
            auto more = each->below->take_events();
            result.insert(result.end(), std::make_move_iterator(more.begin()),
                          std::make_move_iterator(more.end()));
        }
        return result;
    }

    void wake() override {
        for (auto& each : all_)
            each.below->wake();
    }

    void progress() override {
        for (auto& each : all_)
            each.below->progress();
    }

    void destroy() noexcept override {
        for (auto& each : all_)
            each.below->destroy();
    }

private:
    std::vector<named_wire> all_;
};

caf::expected<std::unique_ptr<wire_connection>>
several_wires::connect(incarnation peer, byte_view address, endpoint_id id) {
    const auto theirs = read_addresses(address);
    if (!theirs)
        return make_error(errc::dial_failed, text_of(theirs.error()));
    std::string obstacles;
    const auto note = [&obstacles](const std::string& name, const std::string& why) {
        obstacles += (obstacles.empty() ? "" : "; ") + name + ": " + why;
    };
    for (auto& ours : all_) {
        const auto known = std::find_if(theirs->begin(), theirs->end(),
                                        [&](const auto& each) { return each.name == ours.name; });
        if (known == theirs->end()) {
            note(ours.name, "the peer has none");
            continue;
        }
        auto made = ours.below->connect(peer, known->address, id);
        if (made)
            return made;
        note(ours.name, text_of(made.error()));
    }
    return make_error(errc::dial_failed, "no wire leads to incarnation {}: {}", peer, obstacles);
}

} // namespace

std::unique_ptr<wire> join_wires(std::vector<named_wire> all) {
    return std::make_unique<several_wires>(std::move(all));
}

} // namespace kvferry
