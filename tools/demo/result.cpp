// SPDX-License-Identifier: Apache-2.0
// The comparisons that decide whether a run has passed.
#include "tools/demo/result.hpp"

#include "tools/common/text.hpp"

#include <algorithm>
#include <set>

namespace kvferry::demo {

std::uint64_t request_result::bytes() const {
    std::uint64_t sum = 0;
    for (const auto& arrival : received ? received->arrivals : std::vector<arrival>{})
        sum += arrival.bytes;
    return sum;
}

std::uint64_t request_result::pieces() const {
    std::uint64_t sum = 0;
    for (const auto& arrival : received ? received->arrivals : std::vector<arrival>{})
        sum += arrival.pieces;
    return sum;
}

std::string request_result::route() const {
    std::set<std::string> routes;
    for (const auto& arrival : received ? received->arrivals : std::vector<arrival>{}) {
        if (!arrival.route.empty())
            routes.insert(arrival.route);
    }
    std::string text;
    for (const auto& route : routes)
        text += (text.empty() ? "" : "; ") + route;
    return text.empty() ? "none" : text;
}

double request_result::seconds() const {
    if (!received || received->released_at == 0)
        return 0;
    const auto began = std::max(received->receive_at, sent ? sent->send_at : 0);
    return static_cast<double>(received->released_at - began) * 1e-9;
}

bool request_result::tokens_equal() const {
    return decoded && expected && decoded->first_token == static_cast<std::int64_t>(expected->first)
           && decoded->tokens == expected->tokens;
}

bool request_result::digests_equal() const {
    return prefilled && decoded && expected && prefilled->digest == decoded->digest
           && decoded->digest == expected->prompt_digest;
}

std::vector<std::string> request_result::problems() const {
    const auto name = "request " + std::to_string(rid) + ": ";
    std::vector<std::string> found;
    if (received && !received->failure.empty())
        found.push_back(name + received->failure);
    if (sent && !sent->failure.empty())
        found.push_back(name + sent->failure);
    if (!found.empty())
        return found;
    if (!prefilled || !received || !sent || !decoded)
        return {name + "did not finish"};
    if (!expected)
        return {name + "finished, but was not checked against a one-process run"};
    if (!tokens_equal())
        found.push_back(name + "the tokens differ from those of a one-process run");
    if (!digests_equal())
        found.push_back(name + "the KV differs: digest " + hex_text(decoded->digest)
                        + " on the generation side, " + hex_text(prefilled->digest)
                        + " on the context side, " + hex_text(expected->prompt_digest)
                        + " in a one-process run");
    return found;
}

bool demo_result::passed() const {
    return problems.empty() && !requests.empty()
           && std::all_of(requests.begin(), requests.end(),
                          [](const request_result& request) { return request.problems().empty(); });
}

} // namespace kvferry::demo
