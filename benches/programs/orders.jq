# A large value built, grouped, and written as text.
[range(60000) | {id: ., customer: "customer \(. % 997)", items: [range(. % 5) | {item: ., price: (. * 7 % 100)}]}]
| group_by(.customer)
| map({customer: .[0].customer, orders: length, total: (map(.items | map(.price) | add // 0) | add)})
| sort_by(.total) | tojson | length
