-- Tables of tables, strings and closures that come and go.
local seed, kept, sum = 1, {}, 0
for round = 1, 150000 do
  seed = (seed * 1103515245 + 12345) % 2147483648
  local place = seed % 40000
  kept[place] = {
    name = "entry " .. round,
    parts = { seed % 7, seed % 11, seed % 13 },
    size = function() return round end,
  }
  local other = kept[(seed // 3) % 40000]
  if other then sum = sum + #other.name + other.size() end
end
print(sum)
