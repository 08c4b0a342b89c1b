# Objects of a small class, dictionaries, strings and lists of all ages.
import random

random.seed(1)


class Order:
    def __init__(self, number):
        self.number = number
        self.items = [(f"item {number * 7 % n}", n) for n in range(1, 1 + number % 8)]
        self.notes = {"customer": f"customer {number % 1000}", "total": float(number)}


orders = {}
for number in range(120_000):
    orders[random.randrange(30_000)] = Order(number)
words = sorted(word for order in orders.values() for item in order.items for word in item[0].split())
print(len(orders), len(words), sum(order.notes["total"] for order in orders.values()))
